"""Many cells: everything is checked before the first one trains, then each runs in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.epochs_run import EpochsRun
from benchmarks.commands.bench.learner import build_learner
from benchmarks.commands.bench.online_run import AtOnceRun, OnlineRun
from benchmarks.commands.bench.stream_run import Observer, StreamRun
from benchmarks.commands.bench.warm_up import warm_up_config, warmed_weights
from benchmarks.results.result import Result
from benchmarks.runs.data import open_data, read_manifest
from benchmarks.runs.finished import complete, finished
from benchmarks.runs.machine import pick_device
from benchmarks.runs.workspace import check_writable, clear
from benchmarks.tracking.store import check_store
from continual.learner import Learner
from continual.learners.slda import AnalyticLearner
from continual.scenarios import Stream
from multimodal.errors import UserError
from multimodal.signals import SignalCache

QUICK_EXPERIENCES = 2


class Cells:
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
        self.done = [None if fresh else finished(cell, self.manifest) for cell in self.cells]
        self.warm_up: Cells | None = None
        if config.warm_up is not None and None in self.done:
            self.warm_up = Cells(warm_up_config(config))
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
            self.data.warmed.update(self._warmed(self.warm_up, observer))
        stream = self.streams[number]
        kind = self.kinds[number]
        assert kind is not None
        return kind(cell, self.data, stream, observer=observer).execute()

    def _warmed(self, warm_up: Cells, observer: Any) -> dict[str, Tensor]:
        """Weights of the warm-up run, which is trained now if that was not done before."""
        title = getattr(observer, "title", "")
        if observer is not None:
            observer.title = f"{title}, warm-up on {warm_up.manifest.name}"
        warm_up.run_cell(0, observer)
        if observer is not None:
            observer.title = title
        return warmed_weights(warm_up.cells[0].folder)

    def _kind(self, number: int) -> type[StreamRun]:
        """What runs a cell; UserError if its learner does not fit its encoder or its stream."""
        cell, stream = self.cells[number], self.streams[number]
        learner = build_learner(cell, self.data, pick_device("cpu"))
        refuse_misfits(cell, stream, learner)
        if stream.online is None:
            return EpochsRun
        return AtOnceRun if learner.online == "at_once" else OnlineRun

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


def refuse_misfits(config: RunConfig, stream: Stream, learner: Learner) -> None:
    """UserError if a cell's learner cannot be used on a stream, an online one above all."""
    name, manifest = config.learners[0].registered_name, stream.manifest
    rows = np.concatenate([e.train for e in stream.experiences])
    analytic = isinstance(learner, AnalyticLearner) and manifest.multi_label
    if analytic and np.isnan(manifest.targets[rows]).any():
        raise UserError(
            f"learner {name!r}: some labels of dataset {manifest.name!r} are unknown, and a "
            "regression needs all of them; leave it out, or use er or linear_probe."
        )
    if stream.online is None:
        return
    if learner.online == "no":
        raise UserError(
            f"learner {name!r} comes back to recordings after an experience, but an online stream "
            "shows each of them once; use er, finetune or another online learner."
        )
    if learner.online == "yes" and getattr(config.learners[0], "epochs", None) is not None:
        raise UserError(
            f"learner {name!r}: epochs has no meaning in an online stream, which is read once; "
            "set scenario.online_iter, the optimiser steps of a stream batch."
        )
