"""What ``medley align`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.parts import build_model
from benchmarks.commands.align.run import AlignRun
from benchmarks.config.base import TrackingConfig
from benchmarks.config.loading import load_config
from benchmarks.reports.terminal import print_table, print_wordings
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.runs.data import Data, open_data, read_manifest
from benchmarks.runs.machine import pick_device
from benchmarks.runs.terminal import FitObserver, print_places
from benchmarks.runs.workspace import check_same_run, check_writable, clear
from benchmarks.tracking.store import check_store
from benchmarks.tracking.tracker import make_tracker
from multimodal.training.processes import is_first, start_processes


def run_align(path: Path, overrides: Sequence[str], *, fresh: bool = False) -> None:
    """Train every objective and seed of a config; print the table and say where to look.

    Of several processes only the first writes and prints.
    """
    from accelerate import PartialState

    config = load_config(path, overrides, model=AlignConfig)
    start_processes(cpu=pick_device(config.training.device).type == "cpu")
    console, out = (Console(stderr=err, quiet=not is_first()) for err in (True, False))
    cells = config.cells()
    with PartialState().main_process_first():
        data = _checked(config)
        for cell in cells if fresh and is_first() else ():
            clear(cell.folder)
    results, told = [], set[str]()
    with FitObserver(console) as observer:
        for number, cell in enumerate(cells):
            observer.title = (
                f"[{number + 1}/{len(cells)}] {cell.objectives[0].registered_name} "
                f"seed {cell.seeds[0]}"
            )
            results.append(_run_cell(cell, data, observer, console, told))
    if is_first():
        print_table(results, out)
        print_wordings(results, out)
        print_places(config, out)


def _checked(config: AlignConfig) -> Data:
    """The data of a config; UserError for everything that would stop a cell later."""
    pick_device(config.training.device)
    check_writable(config.folder.parent)
    manifest = read_manifest(config)
    config.prompts.load(config.modality.registered_name).texts(manifest.class_names)
    data = open_data(config, manifest)
    for cell in config.cells():
        build_model(cell, data.adapter)
    check_store(config.tracking, Path(config.output_dir))
    data.signals.ensure(np.arange(len(manifest)))
    return data


def _run_cell(
    cell: AlignConfig, data: Data, observer: FitObserver, console: Console, told: set[str]
) -> Result:
    """told: notes that were printed before."""
    if (cell.folder / RESULT_FILE).exists():
        result = load_result(cell.folder / RESULT_FILE)
        hashes = {
            "config_hash": result.config_hash,
            "content_hash": result.dataset["content_hash"],
        }
        check_same_run(cell.folder, cell, data.manifest.content_hash, hashes)
        console.print(f"{observer.title}: done before, result reused")
        return result
    tracker = make_tracker(
        cell.tracking if is_first() else TrackingConfig(store="none"),
        experiment=cell.experiment,
        folder=cell.folder,
        output_dir=Path(cell.output_dir),
    )
    run = AlignRun(cell, data, tracker=tracker, observer=observer)
    result = run.execute()
    observer.done(result)
    for note in set(run.notes()) - told:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    told.update(run.notes())
    return result
