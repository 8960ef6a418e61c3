"""Si-Blurry streams: classes come back, task borders are random, every recording is met once.

Moon et al., ICCV 2023; ``si_blurry_draw`` says how a stream is drawn and where the default mode
differs from the published sampler. Here a Manifest's training recordings become an online
``Stream``: tasks in the drawn order, and after each of them the test recordings of all classes met
so far. Test recordings are those of the dataset's own split, so they share no group with training
where the manifest's split does not.

Multi-label data: a recording is drawn by its main label (``Manifest.labels``); those without any
label are drawn as a class of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from continual.scenarios import SCENARIOS, Experience, Online, Stream
from continual.scenarios.si_blurry_draw import Draw, draw_stream
from continual.scenarios.si_blurry_draw import draw as draw  # also from here
from multimodal.batch import Batch
from multimodal.datasets.splits import hold_out_validation
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Config

NO_LABEL = "(no label)"
Share = Annotated[float, Field(ge=0, le=1)]
POINTS = 50
DENSE_CELLS = 2**16


@SCENARIOS.register("si_blurry")
class SiBlurryConfig(Config):
    """num_tasks: None takes what the number of classes bears, min(5, max(2, classes // 5)).

    disjoint_class_ratio: share of the classes that stay in one task. blurry_sample_ratio: share of
    the other classes' recordings that are dealt to any task. stochastic: random numbers of classes
    and of leaked recordings a task; false: equal quotas (i-Blurry). legacy: index for index the
    published sampler. min_task_samples: a draw with a smaller task is drawn again; None: 2 % of
    the stream, at least 32 recordings or a tenth of it (legacy mode never draws again).
    stream_seed: None follows the run's seed. online_iter: optimiser steps a stream batch
    (published: 3). eval_period: recordings between two anytime evaluations; None: about 50
    evaluations a stream. validation_fraction: share of the training recordings that the stream does
    not show (whole groups, where groups are known), unless the dataset has a validation split;
    after each task those of the classes met so far are scored, beside the test.
    """

    num_tasks: Annotated[int, Field(ge=1)] | None = None
    disjoint_class_ratio: Share = 0.5
    blurry_sample_ratio: Share = 0.1
    stochastic: bool = True
    legacy: bool = False
    min_task_samples: Annotated[int, Field(ge=0)] | None = None
    stream_seed: Annotated[int, Field(ge=0)] | None = None
    online_iter: Annotated[int, Field(ge=1)] = 3
    eval_period: Annotated[int, Field(ge=1)] | None = None
    validation_fraction: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda share: share == 0)

    def build(self, manifest: Manifest, seed: int) -> Stream:
        """UserError: more tasks than classes, or a draw that leaves a task empty."""
        manifest = hold_out_validation(
            manifest,
            self.validation_fraction,
            seed=seed,
            setting="scenario.validation_fraction",
        )
        rows = manifest.indices("train")
        classes, targets = np.unique(stream_labels(manifest)[rows], return_inverse=True)
        few = min(5, max(2, len(classes) // 5))
        count = self.num_tasks or few
        least = self.min_task_samples
        drawn = draw_stream(
            targets,
            num_classes=len(classes),
            num_tasks=count,
            disjoint_class_ratio=self.disjoint_class_ratio,
            blurry_sample_ratio=self.blurry_sample_ratio,
            seed=seed if self.stream_seed is None else self.stream_seed,
            stochastic=self.stochastic,
            legacy=self.legacy,
            min_task_samples=fewest(len(rows)) if least is None else least,
        )
        names = [*manifest.class_names, NO_LABEL]
        known = [names[c] for c in classes]
        online = Online(
            iterations=self.online_iter,
            eval_period=self.eval_period or max(1, round(len(rows) / POINTS)),
            disjoint=tuple(tuple(known[c] for c in own) for own in drawn.disjoint),
            blurry=tuple(tuple(known[c] for c in own) for own in drawn.blurry),
            leaked=rows[np.array(drawn.leaked, dtype=np.int64)],
            redraws=drawn.redraws,
            seed=drawn.seed,
            notes=self._notes(drawn, count, few, known),
        )
        tasks = _tasks(manifest, rows, drawn, held_out=self.validation_fraction > 0)
        return Stream(manifest, tasks, online=online)

    def _notes(self, drawn: Draw, count: int, few: int, known: list[str]) -> tuple[str, ...]:
        notes = []
        if count > few:
            notes.append(
                f"scenario.num_tasks={count}: {len(known)} classes bear about {few} tasks; with "
                "more of them some are nearly empty."
            )
        if self.disjoint_class_ratio > 0 and not any(drawn.disjoint):
            notes.append(
                f"scenario.disjoint_class_ratio={self.disjoint_class_ratio}: no class of "
                f"{len(known)} is disjoint, since their number is rounded down to a multiple of "
                f"the {count} tasks."
            )
        met = {c for own in (*drawn.disjoint, *drawn.blurry) for c in own}
        lost = [name for c, name in enumerate(known) if c not in met]
        if lost:
            notes.append(f"scenario.legacy: the published sampler drops {', '.join(lost)}.")
        return tuple(notes)


def fewest(count: int) -> int:
    """Recordings that each task of a stream of so many should have."""
    return max(1, count // 50, min(32, count // 10))


def stream_labels(manifest: Manifest) -> np.ndarray:
    """(N,) int64 the class that each recording is drawn by; C for those without a label."""
    return np.where(manifest.labels < 0, manifest.num_classes, manifest.labels)


def _tasks(
    manifest: Manifest, rows: np.ndarray, drawn: Draw, *, held_out: bool
) -> tuple[Experience, ...]:
    """held_out: with validation recordings; those of datasets that have some are left out else."""
    test, validation = manifest.indices("test"), np.empty(0, dtype=np.int64)
    if held_out:
        validation = manifest.indices("validation")
    exposed: set[int] = set()
    tasks = []
    for number, positions in enumerate(drawn.tasks, start=1):
        train = rows[np.array(positions, dtype=np.int64)]
        if not len(train):
            raise UserError(
                f"scenario: task {number} of {len(drawn.tasks)} of the draw with seed "
                f"{drawn.seed} is empty; use another seed, fewer scenario.num_tasks, or "
                "scenario.min_task_samples of at least 1 without scenario.legacy."
            )
        classes = classes_in(manifest, train)
        exposed |= set(classes)
        seen = [test, validation]
        if not manifest.multi_label:
            seen = [rows[np.isin(manifest.labels[rows], list(exposed))] for rows in seen]
        tasks.append(Experience(f"task {number}", classes, train, seen[1], seen[0]))
    return tuple(tasks)


def classes_in(manifest: Manifest, rows: np.ndarray) -> tuple[int, ...]:
    """Ascending ids of the classes that some of the rows have."""
    if manifest.multi_label:
        return tuple(np.flatnonzero((manifest.targets[rows] == 1).any(0)).tolist())
    return tuple(np.unique(manifest.labels[rows]).tolist())


def online_batches(
    stream: Stream, gather: Callable[[Tensor], Batch], batch_size: int, *, start: int = 0
) -> Iterator[Batch]:
    """The stream as it is met, for a loop of your own: batches that cross no border of a task.

    gather: manifest rows -> Batch (``SignalCache.gather``). start: recordings met before, the end
    of one of these batches, to go on from there; ValueError if it is none.
    """
    met = 0
    for experience in stream.experiences:
        for rows in torch.as_tensor(experience.train).split(batch_size):
            if met >= start:
                yield gather(rows)
            met += len(rows)
            if met - len(rows) < start < met:
                raise ValueError(f"start={start} is within a batch, which ends at {met}.")


def realised(stream: Stream) -> dict[str, Any]:
    """What was drawn, as plain data; it is saved with the run.

    tasks: of each, its size, the classes it owns (disjoint, blurry) and how many are present.
    matrix: recordings of each class (row) in each task (column); where the two are more than
    ``DENSE_CELLS``, cells: (class, task, recordings) of those that are not zero, the class as its
    place in ``classes``. leak_share: recordings that stand
    in a task that does not own their class, of all. num_leaked: recordings that were re-dealt,
    those that came back to their own task included.
    """
    online, labels = stream.online, stream_labels(stream.manifest)
    assert online is not None
    names = [*stream.manifest.class_names, NO_LABEL]
    ids, total, leaked = {name: c for c, name in enumerate(names)}, 0, 0
    tasks, found = [], []
    for t, experience in enumerate(stream.experiences):
        present, counts = np.unique(labels[experience.train], return_counts=True)
        own = [ids[name] for name in (*online.disjoint[t], *online.blurry[t])]
        total, leaked = total + counts.sum(), leaked + counts[~np.isin(present, own)].sum()
        found.append(np.stack([present, np.full_like(present, t), counts], axis=1))
        tasks.append(
            {
                "name": experience.name,
                "num_train": len(experience.train),
                "disjoint": list(online.disjoint[t]),
                "blurry": list(online.blurry[t]),
                "num_present": len(present),
            }
        )
    cells = np.concatenate(found)
    if len(names) - 1 not in cells[:, 0]:  # none is without a label
        names = names[:-1]
    return {
        "tasks": tasks,
        "classes": names,
        **_counts(cells, (len(names), len(tasks))),
        "leak_share": float(leaked / total),
        "num_leaked": len(online.leaked),
        "redraws": online.redraws,
        "draw_seed": online.seed,
        "notes": list(online.notes),
    }


def _counts(cells: np.ndarray, shape: tuple[int, int]) -> dict[str, list[list[int]]]:
    """``matrix``, or ``cells`` by class and task."""
    if shape[0] * shape[1] > DENSE_CELLS:
        return {"cells": cells[np.lexsort((cells[:, 1], cells[:, 0]))].tolist()}
    matrix = np.zeros(shape, dtype=np.int64)
    matrix[cells[:, 0], cells[:, 1]] = cells[:, 2]
    return {"matrix": matrix.tolist()}
