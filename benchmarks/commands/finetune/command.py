"""What ``medley finetune`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.commands.finetune.also import Other, open_others, read_others
from benchmarks.commands.finetune.classify import refuse_labels
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.encoder import build_parts
from benchmarks.commands.finetune.folder import refuse_lost_model
from benchmarks.commands.finetune.opening import open_start
from benchmarks.commands.finetune.run import FinetuneRun
from benchmarks.commands.finetune.start import Start, resolved
from benchmarks.commands.finetune.warm_up import warm_up_cells, warmed_start
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import load_config
from benchmarks.reports.terminal import print_table
from benchmarks.results.model_folder import MODEL_FOLDER
from benchmarks.results.result import Result
from benchmarks.runs.data import Data, open_data, read_manifest
from benchmarks.runs.finished import complete, finished, reused
from benchmarks.runs.inputs import manifest_input
from benchmarks.runs.machine import pick_device
from benchmarks.runs.plan import print_plan
from benchmarks.runs.remote import RemoteObserver
from benchmarks.runs.terminal import FitObserver, checking, print_places
from benchmarks.runs.workspace import check_writable, clear
from benchmarks.tracking.parent import Parents
from benchmarks.tracking.registered import register
from benchmarks.tracking.store import check_store
from multimodal.datasets.splits import hold_out_validation
from multimodal.training.processes import is_first, start_processes


def run_finetune(
    path: Path,
    overrides: Sequence[str],
    *,
    fresh: bool = False,
    from_adapter: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Fine-tune by every method and seed of a config; print the table and where the models are.

    from_adapter: the setting of that name. dry_run: only list the runs. Of several processes only
    the first writes and prints.
    """
    from accelerate import PartialState

    more = [] if from_adapter is None else [f"from_adapter={from_adapter}"]
    config = load_config(path, [*overrides, *more], model=FinetuneConfig)
    refuse_idle([path], [*overrides, *more], model=FinetuneConfig)
    if dry_run:
        cells = resolved(config, open_start(config)).cells()
        return print_plan(cells, Console(), fresh=fresh)
    start_processes(cpu=pick_device(config.training.device).type == "cpu")
    console, out = (Console(stderr=err, quiet=not is_first()) for err in (True, False))
    with checking(console), PartialState().main_process_first():
        start = open_start(config)
        config = resolved(config, start)
        data, others, done = _checked(config, start, fresh=fresh)
        if config.warm_up is not None and None in done:
            warm_up_cells(config)
        cells = config.cells()
        for cell in cells if fresh and is_first() else ():
            clear(cell.folder)
    results, told, parents = [], set[str](), Parents(cells, config.to_yaml())
    with FitObserver(console) as observer:
        for number, (cell, result) in enumerate(zip(cells, done, strict=True)):
            observer.title = f"[{number + 1}/{len(cells)}] {cell.title}"
            if result is None:
                if config.warm_up is not None and start is None:
                    console.print(
                        f"{observer.title}: the encoder is warmed up first, if it was not"
                    )
                    with PartialState().main_process_first():
                        start = warmed_start(config)
                run = FinetuneRun(cell, data, start, others, observer=observer)
                for note in [n for n in run.notes() if n not in told]:
                    console.print(f"{observer.title}: {note}", markup=False, soft_wrap=True)
                told.update(run.notes())
                result = run.execute()
                observer.done(result)
            else:
                if is_first():
                    complete(cell, result)
                console.print(f"{observer.title}: {reused(result)}", soft_wrap=True)
            results.append(result)
            if is_first():
                parents.update(ended=len(results) == len(cells))
    if is_first():
        print_table(results, out)
        _print_models(cells, out)
        print_places(config, out)


def run_one(config: FinetuneConfig, observer: FitObserver | RemoteObserver) -> tuple[Result, bool]:
    """The result of a config of one cell, and whether it was there before; UserError, Held."""
    start_processes(cpu=pick_device(config.training.device).type == "cpu")
    start = open_start(config)
    # What one process has decoded others only map.
    shared = config.model_copy(update={"cache": "disk"})
    data, others, (done,) = _checked(shared, start, fresh=False)
    if done is not None:
        complete(config, done)
        return done, True
    if config.warm_up is not None:
        warm_up_cells(config)
        start = warmed_start(config)
    result = FinetuneRun(config, data, start, others, observer=observer).execute()
    observer.done(result)
    return result, False


def _checked(
    config: FinetuneConfig, start: Start | None, *, fresh: bool
) -> tuple[Data, list[Other], list[Result | None]]:
    """The data of a config, the other data, and the results of the cells that are done.

    UserError for everything that would stop a cell later.
    """
    pick_device(config.training.device)
    check_writable(config.folder.parent)
    manifest = read_manifest(config)
    data = open_data(config, manifest, features=True)
    if start is not None:
        data.inputs["start"] = start.digest
    if config.warm_up is not None:
        other = read_manifest(config.model_copy(update={"dataset": config.warm_up.dataset}))
        data.inputs["warm_up.dataset"] = manifest_input(other)
    read = read_others(config)
    data.inputs.update({f"evaluate_also.{m.name}": manifest_input(m) for m in read})
    for cell in config.cells():
        held = hold_out_validation(manifest, cell.validation_fraction, seed=cell.seeds[0])
        refuse_labels(cell, held, start)
    for cell in {cell.methods[0].model_dump_json(): cell for cell in config.cells()}.values():
        with torch.random.fork_rng():
            build_parts(cell, data.adapter, start)
    check_store(config.tracking, Path(config.output_dir))
    done = [None if fresh else finished(cell, manifest, data.inputs) for cell in config.cells()]
    for cell, result in zip(config.cells(), done, strict=True):
        if result is not None:
            refuse_lost_model(cell.folder)
    others: list[Other] = []
    if None in done:
        others = open_others(config, read)
        data.signals.ensure(np.arange(len(manifest)))
    return data, others, done


def _print_models(cells: Sequence[FinetuneConfig], out: Console) -> None:
    """Where each model is; it is registered, if the config has a name for it."""
    for cell in cells:
        where = f"{cell.title}: model in {cell.folder / MODEL_FOLDER}"
        if cell.register_as is not None:
            version = register(cell.folder, cell.register_as)
            where += f", registered as {cell.register_as} version {version}"
        out.print(where, markup=False, soft_wrap=True, highlight=False)
