"""Many cells: everything is checked before the first one trains, then each runs in turn."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

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
from benchmarks.runs.inputs import OtherData, manifest_input
from benchmarks.runs.machine import pick_device, size_of, use_threads
from benchmarks.runs.workspace import check_writable, clear
from benchmarks.tracking.store import check_store
from continual.learner import Learner, LearnerConfig
from continual.online import refuse_unfit
from continual.rehearsal import Memory
from continual.scenarios import Stream
from multimodal.digests import DamagedFile
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Config
from multimodal.signals import SignalCache

QUICK_EXPERIENCES = 2


class Cells:
    """The cells of one config, checked and ready.

    Making it reads annotations and decodes signals, and raises UserError for everything about
    the config, the data, the output folder and the tracking store that would stop a cell later.
    ``run_cell`` then runs a cell that is not done yet; ``done`` holds the results of the others.
    fresh: no cell counts as done; call ``clear`` before the first one runs. Nor does a warm-up on
    other data than there is now.
    """

    def __init__(self, config: RunConfig, *, fresh: bool = False) -> None:
        self.config, self.cells = config, config.cells()
        self._not_kept = (DamagedFile, OtherData) if fresh else (DamagedFile,)  # of warm-ups
        pick_device(config.training.device)
        check_writable(config.folder.parent)
        self.manifest = read_manifest(config)
        self.streams = [cell.scenario.build(self.manifest, cell.seeds[0]) for cell in self.cells]  # pyright: ignore
        if config.quick:
            self.streams = [shorten(stream) for stream in self.streams]
        signals = any(learner.reads_signals for learner in config.learners)  # pyright: ignore
        self.data = open_data(config, self.manifest, features=not signals)
        if config.warm_up is not None:
            self.data.inputs["warm_up.dataset"] = manifest_input(
                read_manifest(warm_up_config(config))
            )
        more = self.data.inputs
        self.done = [None if fresh else finished(cell, self.manifest, more) for cell in self.cells]
        self._to_decode: list[int] = []  # numbers of cells
        self.warm_up: Cells | None = None
        if config.warm_up is not None and None in self.done:
            self.warm_up = _warm_up_cells(warm_up_config(config), self._not_kept)
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
            warm_up.run_cell(0, observer)
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


def shorten(stream: Stream) -> Stream:
    """The first experiences only, for ``quick`` runs."""
    count = QUICK_EXPERIENCES
    return replace(stream, experiences=stream.experiences[:count], parts=stream.parts[:count])


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


def refuse_two_kinds(config: Config, learner: Learner) -> None:
    """UserError if a learner from outside the tree does not say what it is, or says two things."""
    name, said = config.registered_name, getattr(config, "kind", None)
    if said != learner.kind:
        raise UserError(
            f"learner {name!r}: its config is of kind {said!r}, but {type(learner).__name__} is "
            f"{learner.kind!r}; give both classes the same `kind`."
        )
    if hasattr(learner, "online"):
        raise UserError(
            f"learner {name!r}: `online` is called `kind` now, of the learner and of its config "
            "('online', 'offline' or 'joint'); rename it."
        )


def refuse_misfits(learner: Config, stream: Stream) -> None:
    """UserError if a learner cannot be used on a stream, an online one above all."""
    name, manifest = learner.registered_name, stream.manifest
    if not isinstance(learner, LearnerConfig):
        raise UserError(f"learner {name!r}: its config is no continual.learners.LearnerConfig.")
    rows = np.concatenate([e.train for e in stream.experiences])
    picky = learner.needs_all_labels and manifest.multi_label
    if picky and np.isnan(manifest.targets[rows]).any():
        raise UserError(
            f"learner {name!r}: some labels of dataset {manifest.name!r} are unknown, and a "
            "regression needs all of them; leave it out, or use er or linear_probe."
        )
    if learner.needs_texts or (learner.uses_texts and manifest.texts is not None):
        refuse_missing_texts(learner, manifest, rows)
    if stream.online is None:
        return
    if learner.kind == "offline":
        raise UserError(
            f"learner {name!r} comes back to recordings after an experience, but an online stream "
            "shows each of them once; use er, finetune or another online learner."
        )
    if learner.kind == "online" and learner.epochs is not None:
        raise UserError(
            f"learner {name!r}: epochs has no meaning in an online stream, which is read once; "
            "set scenario.online_iter, the optimiser steps of a stream batch."
        )


def refuse_small_memory(learner: str, memory: Memory | None, stream: Stream) -> None:
    """UserError unless a memory of exemplars has room for one of every class that it will meet."""
    if memory is None or not memory.needs_features:
        return
    # Multi-label recordings without a label are a class of their own to a memory.
    rows = np.concatenate([e.train for e in stream.experiences])
    classes = len(np.unique(stream.manifest.labels[rows]))
    if memory.capacity < classes:
        raise UserError(
            f"learner {learner!r}, memory_size={memory.capacity}: herding keeps at least one "
            f"recording of each of the {classes} classes; give {classes} or more."
        )


def refuse_missing_texts(learner: LearnerConfig, manifest: Manifest, rows: np.ndarray) -> None:
    """UserError naming training recordings without a text, for a learner that reads texts."""
    uids, texts = (manifest.columns.column(name)[rows].tolist() for name in ("uid", "text"))
    missing = [uid for uid, text in zip(uids, texts, strict=True) if not text.strip()]
    if missing:
        why, remedy = "learns to write texts", "write texts, or leave these recordings out"
        if learner.needs_texts:
            why, remedy = "captions=text", "write texts, or set captions=labels"
        names = ", ".join(map(repr, missing[:5])) + ", ..." * (len(missing) > 5)
        raise UserError(
            f"learner {learner.registered_name!r}: {why}, but {len(missing)} of {len(rows)} "
            f"training recordings of dataset {manifest.name!r} have no text: {names}; {remedy}."
        )
