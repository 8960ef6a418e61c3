"""Many cells: everything is checked before the first one trains, then each runs in turn."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.epochs_run import EpochsRun
from benchmarks.commands.bench.learner import build_learner
from benchmarks.commands.bench.misfits import (
    misfits,
    refuse_misfits,
    refuse_small_memory,
    refuse_two_kinds,
)
from benchmarks.commands.bench.online_run import AtOnceRun, OnlineRun
from benchmarks.commands.bench.quick_stream import evaluated, shorten
from benchmarks.commands.bench.stream_run import Observer, StreamRun
from benchmarks.commands.bench.warm_up import warm_up_config, warmed_weights
from benchmarks.results.result import Result
from benchmarks.runs.data import Data, open_data, read_manifest
from benchmarks.runs.finished import complete, finished
from benchmarks.runs.inputs import OtherData, manifest_input
from benchmarks.runs.machine import pick_device, size_of, use_threads
from benchmarks.runs.workspace import check_writable, clear
from benchmarks.tracking.store import check_store
from continual.learner import LearnerConfig
from continual.online import refuse_unfit
from continual.rehearsal import Memory
from continual.scenarios import Stream
from continual.unknown import refuse_no_unknown
from multimodal.digests import DamagedFile
from multimodal.errors import UserError
from multimodal.locks import Held
from multimodal.signals import SignalCache

WARM_UP = "warm_up.dataset"  # an input of a run
WARM_UP_PAUSE = 0.5  # seconds between two looks at a warm-up that another process makes


class Cells:
    """The cells of one config, checked and ready.

    Making it reads annotations and decodes signals, and raises UserError for everything about
    the config, the data, the output folder and the tracking store that would stop a cell later.
    ``run_cell`` then runs a cell that is not done yet; ``done`` holds the results of the others.
    fresh: no cell counts as done; call ``clear`` before the first one runs. Nor does a warm-up on
    other data than there is now. data: of cells before these, of the same data settings.
    Misfit: a learner does not fit the data or the stream.
    """

    def __init__(self, config: RunConfig, *, fresh: bool = False, data: Data | None = None) -> None:
        self.config, self.cells = config, config.cells()
        self._not_kept = (DamagedFile, OtherData) if fresh else (DamagedFile,)  # of warm-ups
        pick_device(config.training.device)
        check_writable(config.folder.parent)
        self.manifest = read_manifest(config) if data is None else data.manifest
        with misfits():
            self.streams = [
                cell.scenario.build(self.manifest, cell.seeds[0])  # pyright: ignore
                for cell in self.cells
            ]
        if config.quick:
            self.streams = [
                shorten(stream, period=getattr(cell.scenario, "eval_period", None))
                for cell, stream in zip(self.cells, self.streams, strict=True)
            ]
        if config.evaluation.unknown is not None:
            for stream in self.streams:
                refuse_no_unknown(stream, f"evaluation.unknown={config.evaluation.unknown}")
        self.data = data or open_data(config, self.manifest, features=not reads_signals(config))
        if config.warm_up is not None and WARM_UP not in self.data.inputs:
            self.data.inputs[WARM_UP] = manifest_input(read_manifest(warm_up_config(config)))
        more = self.data.inputs
        self.done = [
            None if fresh else finished(cell, self.manifest, more | evaluated(cell, stream))
            for cell, stream in zip(self.cells, self.streams, strict=True)
        ]
        self._to_decode: list[int] = []  # numbers of cells
        self.warm_up: Cells | None = None
        if config.warm_up is not None and None in self.done and not self.data.warmed:
            self.warm_up = _warm_up_cells(warm_up_config(config), self._not_kept)
        with misfits():
            self._refuse_misfits()
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
            complete(cell, done)
            return done
        if self.warm_up is not None and not self.data.warmed:
            self.data.warmed.update(self._warmed(self.warm_up, observer))
        stream = self.streams[number]
        return self._kind(number)(cell, self.data, stream, observer=observer).execute()

    def _warmed(self, warm_up: Cells, observer: Any) -> dict[str, Tensor]:
        """Weights of the warm-up run, which is trained now if that was not done before."""
        title = getattr(observer, "title", "")
        if observer is not None:
            observer.title = f"{title}, warm-up on {warm_up.manifest.name}"
        folder = warm_up.cells[0].folder
        try:
            while True:
                try:
                    warm_up.run_cell(0, observer)
                    break
                except Held:  # by a cell in another process, which needs it, too
                    time.sleep(WARM_UP_PAUSE)
                    warm_up = _warm_up_cells(warm_up.config, self._not_kept)
            weights = warmed_weights(folder)
        except self._not_kept as problem:
            _clear_spoilt(folder, problem)
            warm_up = Cells(warm_up.config)
            warm_up.run_cell(0, observer)
            weights = warmed_weights(folder)
        if observer is not None:
            observer.title = title
        return weights

    def _refuse_misfits(self) -> None:
        """UserError if a learner does not fit its stream, the data or the encoder.

        Each learner is built once for a try, whatever the number of its seeds.
        """
        waiting = [i for i, done in enumerate(self.done) if done is None]
        for i in waiting:
            refuse_misfits(self.cells[i].learners[0], self.streams[i])
        tried: dict[str, Tried] = {}
        for i in waiting:
            config = self.cells[i].learners[0]
            known = json.dumps(config.dump())
            if known not in tried:
                learner = build_learner(self.cells[i], self.data, pick_device("cpu"))
                refuse_two_kinds(config, learner)
                if self._kind(i) is OnlineRun:
                    refuse_unfit(learner, config.registered_name)
                tried[known] = Tried(learner.memory, learner.reads, size_of(learner.model))
            refuse_small_memory(config.registered_name, tried[known].memory, self.streams[i])
            # Damaged recordings are left out of the streams of all learners.
            if tried[known].reads or self.config.skip_damaged:
                self._to_decode.append(i)
        if tried:  # decoding computes features, too
            use_threads(
                self.config.training.threads,
                parameters=max(t.parameters for t in tried.values()),
                device=pick_device(self.config.training.device),
                told=False,
            )

    def _kind(self, number: int) -> type[StreamRun]:
        """What runs a cell."""
        learner = self.cells[number].learners[0]
        assert isinstance(learner, LearnerConfig)
        if self.streams[number].online is None:
            return EpochsRun
        return AtOnceRun if learner.kind == "joint" else OnlineRun

    def _decode(self) -> None:
        """Decode all that the cells will need; leave damaged recordings out if so configured."""
        if not self._to_decode:
            return
        rows = [self.streams[i].rows for i in self._to_decode]
        self.data.signals.ensure(np.unique(np.concatenate(rows)))
        damaged = self.data.signals.damaged
        if damaged:
            try:
                self.streams = [usable(stream, self.data.signals) for stream in self.streams]
            except UserError as error:
                raise UserError(f"{error} ({len(damaged)} damaged ones left out)") from error


class Tried(NamedTuple):
    """What is known of a learner that was built for a try. parameters: of its model."""

    memory: Memory | None
    reads: bool
    parameters: int


def _warm_up_cells(config: RunConfig, not_kept: tuple[type[UserError], ...]) -> Cells:
    """Checked and ready; a warm-up that is ``not_kept`` is made again."""
    try:
        return Cells(config)
    except not_kept as problem:
        _clear_spoilt(config.cells()[0].folder, problem)
        return Cells(config)


def _clear_spoilt(folder: Path, problem: UserError) -> None:
    print(f"medley: {problem} {folder} was cleared, and is made again.", file=sys.stderr)
    clear(folder)


def reads_signals(config: RunConfig) -> bool:
    """Some learner does, or is of a plug-in and might, so that no features stand in their place."""
    return any(
        learner.reads_signals or not type(learner).__module__.startswith("continual.")  # pyright: ignore
        for learner in config.learners
    )


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
    parts = tuple(replace(part, test=signals.usable(part.test)) for part in stream.parts)
    return replace(stream, experiences=kept, held_out=held, parts=parts)
