"""Many cells: everything is checked before the first one trains, then each runs in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.bench_config import RunConfig
from benchmarks.bench_learner import build_learner
from benchmarks.cell_run import CellRun, Observer
from benchmarks.online_run import AtOnceRun, OnlineRun, refuse_misfits
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.run import Run
from benchmarks.runs.data import open_data, read_manifest
from benchmarks.runs.finished import complete
from benchmarks.runs.machine import pick_device
from benchmarks.runs.workspace import check_same_run, check_writable, clear
from benchmarks.tracking.store import check_store
from benchmarks.tracking.tracker import make_tracker
from benchmarks.warm_up import warm_up_config, warmed_weights
from continual.scenarios import Stream
from multimodal.errors import UserError
from multimodal.signals import SignalCache

QUICK_EXPERIENCES = 2


class Grid:
    """The cells of one config, checked and ready.

    Making it reads annotations and decodes signals, and raises UserError for everything about
    the config, the data, the output folder and the tracking store that would stop a cell later.
    ``run_cell`` then runs a cell that is not done yet; ``done`` holds the results of the others.
    fresh: no cell counts as done; call ``clear`` before the first one runs.
    """

    def __init__(self, config: RunConfig, *, fresh: bool = False) -> None:
        self.config, self.cells = config, config.cells()
        pick_device(config.training.device)
        check_writable(config.folder.parent)
        self.manifest = read_manifest(config)
        self.streams = [cell.scenario.build(self.manifest, cell.seeds[0]) for cell in self.cells]  # pyright: ignore
        if config.quick:
            self.streams = [shorten(stream) for stream in self.streams]
        self.data = open_data(config, self.manifest)
        self.done = [None if fresh else self._finished(cell) for cell in self.cells]
        self.warm_up: Grid | None = None
        if config.warm_up is not None and None in self.done:
            self.warm_up = Grid(warm_up_config(config))
        self.kinds = [self._kind(i) if done is None else None for i, done in enumerate(self.done)]
        check_store(config.tracking, Path(config.output_dir))
        self._decode()

    @property
    def notes(self) -> list[str]:
        """What a user should know of the streams that were drawn, each once."""
        online = [stream.online for stream in self.streams]
        return list(dict.fromkeys(note for o in online if o is not None for note in o.notes))

    def clear(self) -> None:
        """Delete what earlier runs of the cells left; call it after all checks, of all grids."""
        for cell in self.cells:
            clear(cell.folder)

    def run_cell(self, number: int, observer: Observer | None = None) -> Result:
        """Run a cell, or return its result if it is done already."""
        cell, done = self.cells[number], self.done[number]
        if done is not None:
            complete(cell.folder, done)
            return done
        if self.warm_up is not None and not self.data.warmed:
            self.data.warmed.update(warmed_weights(self.warm_up, observer))
        tracker = make_tracker(
            cell.tracking,
            experiment=cell.experiment,
            folder=cell.folder,
            output_dir=Path(cell.output_dir),
        )
        stream = self.streams[number]
        kind = self.kinds[number]
        assert kind is not None
        return kind(cell, self.data, stream, tracker=tracker, observer=observer).execute()

    def _kind(self, number: int) -> type[CellRun]:
        """What runs a cell; UserError if its learner does not fit its encoder or its stream."""
        cell, stream = self.cells[number], self.streams[number]
        learner = build_learner(cell, self.data, pick_device("cpu"))
        refuse_misfits(cell, stream, learner)
        if stream.online is None:
            return Run
        return AtOnceRun if learner.online == "at_once" else OnlineRun

    def _finished(self, cell: RunConfig) -> Result | None:
        if not (cell.folder / RESULT_FILE).exists():
            return None
        result = load_result(cell.folder / RESULT_FILE)
        state = {
            "config_hash": result.config_hash,
            "content_hash": result.dataset["content_hash"],
        }
        check_same_run(cell.folder, cell, self.data.manifest.content_hash, state)
        return result

    def _decode(self) -> None:
        """Decode all that the cells will need; leave damaged recordings out if so configured."""
        waiting = [s for s, done in zip(self.streams, self.done, strict=True) if done is None]
        if not waiting:
            return
        self.data.signals.ensure(np.unique(np.concatenate([s.rows for s in waiting])))
        damaged = self.data.signals.damaged
        if damaged:
            try:
                self.streams = [usable(stream, self.data.signals) for stream in self.streams]
            except UserError as error:
                raise UserError(f"{error} ({len(damaged)} damaged ones left out)") from error


def shorten(stream: Stream) -> Stream:
    """The first experiences only, for ``quick`` runs."""
    return replace(stream, experiences=stream.experiences[:QUICK_EXPERIENCES])


def usable(stream: Stream, signals: SignalCache) -> Stream:
    """The stream without damaged recordings; UserError if a class lost all of a split."""
    kept = tuple(
        replace(
            e,
            train=signals.usable(e.train),
            validation=signals.usable(e.validation),
            test=signals.usable(e.test),
        )
        for e in stream.experiences
    )
    held = stream.held_out
    if held is not None:
        held = replace(held, test=signals.usable(held.test))
    return replace(stream, experiences=kept, held_out=held)
