"""What ``medley align`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.commands.align.case_scoring import refuse_unscored
from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import AlignData, decode, open_align, with_scenes
from benchmarks.commands.align.parts import build_model, refuse_batches
from benchmarks.commands.align.run import AlignRun
from benchmarks.commands.align.start import start_folder, start_inputs
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import load_config
from benchmarks.reports.terminal import print_table, print_wordings
from benchmarks.results.result import Result
from benchmarks.runs.finished import complete, finished, reused
from benchmarks.runs.machine import pick_device
from benchmarks.runs.plan import print_plan
from benchmarks.runs.remote import RemoteObserver
from benchmarks.runs.terminal import FitObserver, checking, print_places
from benchmarks.runs.workspace import check_writable, clear
from benchmarks.tracking.parent import Parents
from benchmarks.tracking.store import check_store
from multimodal.training.processes import is_first, start_processes

# Of a cell by itself: no other part of its config changes what is read.
OWN = ("experiment", "objectives", "seeds", "training", "validation_fraction", "init", "tracking")
_kept: dict[str, AlignData] = {}


def run_align(
    path: Path, overrides: Sequence[str], *, fresh: bool = False, dry_run: bool = False
) -> None:
    """Train every objective and seed of a config; print the table and say where to look.

    Of several processes only the first writes and prints. dry_run: only list the runs.
    """
    from accelerate import PartialState

    config = load_config(path, overrides, model=AlignConfig)
    refuse_idle([path], overrides, model=AlignConfig)
    if dry_run:
        return print_plan(config.cells(), Console(), fresh=fresh)
    start_processes(cpu=pick_device(config.training.device).type == "cpu")
    console, out = (Console(stderr=err, quiet=not is_first()) for err in (True, False))
    cells = config.cells()
    with checking(console), PartialState().main_process_first():
        data, done = _checked(config, fresh=fresh)
        for cell in cells if fresh and is_first() else ():
            clear(cell.folder)
    if data.cases is not None:
        console.print(f"{data.cases.name}: {data.cases.summary}", markup=False, soft_wrap=True)
    results, told, parents = [], set[str](), Parents(cells, config.to_yaml())
    with FitObserver(console) as observer:
        for number, (cell, result) in enumerate(zip(cells, done, strict=True)):
            observer.title = f"[{number + 1}/{len(cells)}] {cell.title}"
            if result is None:
                result = _run_cell(cell, data, observer, console, told)
            else:
                if is_first():
                    complete(cell, result)
                console.print(f"{observer.title}: {reused(result)}", soft_wrap=True)
            results.append(result)
            if is_first():
                parents.update(ended=len(results) == len(cells))
    if is_first():
        print_table(results, out, against=results[0])
        print_wordings(results, out)
        print_places(config, out, against=results[0])


def run_one(config: AlignConfig, observer: FitObserver | RemoteObserver) -> tuple[Result, bool]:
    """The result of a config of one cell, and whether it was there before; UserError, Held.

    What cells share (decoded signals, embeddings, encoded texts) is kept from one to the next where
    they differ in nothing but what stands in ``OWN``, on one device: texts are encoded where the
    model is.
    """
    start_processes(cpu=pick_device(config.training.device).type == "cpu")
    key = _key(config)
    if key not in _kept:
        _kept.clear()
    # What one process has decoded others only map.
    shared = config.model_copy(update={"cache": "disk"})
    data, (done,) = _checked(shared, fresh=False, known=_kept.get(key))
    if config.compose is None:  # scenes are a cell's own
        _kept[key] = data
    if done is not None:
        complete(config, done)
        return done, True
    result = AlignRun(config, data, observer=observer).execute()
    observer.done(result)
    return result, False


def _key(config: AlignConfig) -> str:
    shared = {k: v for k, v in config.dump().items() if k not in OWN}
    return json.dumps([shared, str(pick_device(config.training.device))], sort_keys=True)


def _checked(
    config: AlignConfig, *, fresh: bool, known: AlignData | None = None
) -> tuple[AlignData, list[Result | None]]:
    """The data of a config, if it is not ``known``, and the results of the cells that are done.

    UserError for everything that would stop a cell later.
    """
    pick_device(config.training.device)
    check_writable(config.folder.parent)
    data = open_align(config) if known is None else known
    for name in config.towers:
        config.prompts.load(name).texts(data.manifest.class_names)
    adapters = {name: view.data.adapter for name, view in data.views.items()}
    starts = {(c.objectives[0].model_dump_json(), start_folder(c)): c for c in config.cells()}
    for (_, start), cell in starts.items():  # seeds alone build alike
        build_model(cell, adapters, start=start)
    check_store(config.tracking, Path(config.output_dir))
    done = [
        None if fresh else finished(cell, data.manifest, data.inputs | start_inputs(cell))
        for cell in config.cells()
    ]
    if None in done:
        data = with_scenes(config, decode(data, skip_damaged=config.skip_damaged))
    for cell, result in zip(config.cells(), done, strict=True):
        if result is None and cell.views:
            refuse_unscored(cell, data)
        if result is None and cell.training.batch is not None:
            refuse_batches(cell, data)
    return data, done


def _run_cell(
    cell: AlignConfig, data: AlignData, observer: FitObserver, console: Console, told: set[str]
) -> Result:
    """told: notes that were printed before."""
    run = AlignRun(cell, data, observer=observer)
    result = run.execute()
    observer.done(result)
    for note in set(run.notes()) - told:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    told.update(run.notes())
    return result
