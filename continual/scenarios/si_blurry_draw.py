"""The Si-Blurry draw: which recordings each task of a stochastic blurry stream holds.

Moon et al., "Online Class Incremental Learning on Stochastic Blurry Task Boundary via Mask and
Visual Prompt Tuning", ICCV 2023 (Si-Blurry), after Koh et al., ICLR 2022 (i-Blurry). Classes are
disjoint (all of their recordings in one task) or blurry (owned by one task, some recordings leak
into others).

``legacy=True`` gives, index for index, what the published sampler gives. The default mode differs
in three points, because the published one takes the leak in file order, drops classes that do not
divide by the number of tasks, and (evenly dealt) loses the rest of the leak: here every task's
blurry recordings are shuffled first, every class is kept, and the rest is dealt too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from multimodal.errors import UserError

MAX_REDRAWS = 100
REDRAW_STEP = 1_000_003


@dataclass(frozen=True)
class Draw:
    """tasks: for each, positions in the targets, in the order of the stream. disjoint, blurry: the
    classes that each task owns. leaked: positions that were re-dealt. redraws: attempts that were
    thrown away. seed: of the attempt that was kept.
    """

    tasks: list[list[int]]
    disjoint: list[list[int]]
    blurry: list[list[int]]
    leaked: list[int]
    redraws: int
    seed: int


def draw(
    targets: Sequence[int] | np.ndarray,
    *,
    num_classes: int,
    num_tasks: int,
    disjoint_class_ratio: float,
    blurry_sample_ratio: float,
    seed: int,
    stochastic: bool = True,
    legacy: bool = False,
    min_task_samples: int = 0,
) -> list[list[int]]:
    """For each task, positions in ``targets`` in the order of the stream; a pure function.

    targets: (N,) class ids in [0, num_classes). Ratios: in [0, 1], rounded to whole percents.
    stochastic: random numbers of classes and of leaked recordings a task; False: equal quotas
    (i-Blurry). min_task_samples: a draw with a smaller task is thrown away and drawn again (not in
    legacy mode). UserError: see ``draw_stream``.
    """
    return draw_stream(
        targets,
        num_classes=num_classes,
        num_tasks=num_tasks,
        disjoint_class_ratio=disjoint_class_ratio,
        blurry_sample_ratio=blurry_sample_ratio,
        seed=seed,
        stochastic=stochastic,
        legacy=legacy,
        min_task_samples=min_task_samples,
    ).tasks


def draw_stream(
    targets: Sequence[int] | np.ndarray,
    *,
    num_classes: int,
    num_tasks: int,
    disjoint_class_ratio: float,
    blurry_sample_ratio: float,
    seed: int,
    stochastic: bool = True,
    legacy: bool = False,
    min_task_samples: int = 0,
) -> Draw:
    """``draw`` with what is known of it.

    UserError: ratios outside [0, 1], labels outside the classes, more tasks than classes (not in
    legacy mode, where classes are then dropped), and MAX_REDRAWS redraws in a row with a task of
    fewer recordings than ``min_task_samples``.
    """
    labels = np.asarray(targets, dtype=np.int64)
    _check(labels, num_classes, num_tasks, disjoint_class_ratio, blurry_sample_ratio, legacy)
    percents = round(100 * disjoint_class_ratio), round(100 * blurry_sample_ratio)
    for attempt in range(1 if legacy else MAX_REDRAWS + 1):
        own_seed = seed + REDRAW_STEP * attempt
        one = _Attempt(labels, num_classes, num_tasks, percents, own_seed, stochastic, legacy)
        tasks = one.run()
        if legacy or min(map(len, tasks)) >= min_task_samples:
            return Draw(tasks, one.disjoint, one.blurry, sorted(one.leaked), attempt, own_seed)
    raise UserError(
        f"scenario.min_task_samples={min_task_samples}: {MAX_REDRAWS + 1} draws from seed {seed} "
        f"all left a task of {num_tasks} with fewer recordings ({len(labels)} in all, "
        f"{num_classes} classes); set fewer tasks (about {max(2, num_classes // 5)} for so many "
        "classes), or a smaller minimum."
    )


def _check(
    labels: np.ndarray, classes: int, tasks: int, disjoint: float, blurry: float, legacy: bool
) -> None:
    for name, ratio in (("disjoint_class_ratio", disjoint), ("blurry_sample_ratio", blurry)):
        if not 0 <= ratio <= 1:
            raise UserError(f"scenario.{name}={ratio}: a share of all; give 0 to 1, such as 0.5.")
    if tasks < 1 or (tasks > classes and not legacy):
        raise UserError(
            f"scenario.num_tasks={tasks}: {classes} classes need 1 to {classes} tasks, each of "
            f"which owns a class; about {max(2, classes // 5)} keep tasks from being nearly empty."
        )
    if labels.ndim != 1 or (len(labels) and not 0 <= labels.min() <= labels.max() < classes):
        raise UserError(f"targets must be class ids from 0 to {classes - 1}, one a recording.")


class _Attempt:
    """One draw from one generator; the order of its random numbers is the published one."""

    def __init__(
        self,
        labels: np.ndarray,
        num_classes: int,
        num_tasks: int,
        percents: tuple[int, int],
        seed: int,
        stochastic: bool,
        legacy: bool,
    ) -> None:
        self.labels, self.classes, self.count = labels, num_classes, num_tasks
        self.disjoint_percent, self.blurry_percent = percents
        self.stochastic, self.legacy = stochastic, legacy
        self.random = torch.Generator().manual_seed(seed)
        self.disjoint: list[list[int]] = []
        self.blurry: list[list[int]] = []
        self.leaked: list[int] = []

    def run(self) -> list[list[int]]:
        self._own_classes()
        fixed, mixed = self._rows(self.disjoint), self._rows(self.blurry)
        if not self.legacy:
            mixed = [self._shuffled(rows) for rows in mixed]
        self._leak(mixed)
        return [self._shuffled(a + b) for a, b in zip(fixed, mixed, strict=True)]

    def _own_classes(self) -> None:
        tasks = self.count
        disjoint = self.classes * self.disjoint_percent // 100 // tasks * tasks
        blurry = self.classes - disjoint
        if self.legacy:
            blurry = blurry // tasks * tasks
        order = self._permutation(self.classes)
        pools = order[:disjoint], order[disjoint : disjoint + blurry]
        cut = self._cut if self.stochastic else self._deal
        self.disjoint, self.blurry = (cut(pool) for pool in pools)

    def _cut(self, pool: list[int]) -> list[list[int]]:
        """Consecutive slices at random points, some perhaps empty."""
        ends = [0, *self._cut_points(len(pool)), len(pool)]
        return [pool[a:b] for a, b in pairwise(ends)]

    def _cut_points(self, count: int) -> list[int]:
        if count == 0:  # the published sampler draws nothing then
            return [0] * (self.count - 1)
        drawn: Tensor = torch.randint(0, count, (self.count - 1,), generator=self.random)
        return sorted(drawn.tolist())

    def _deal(self, pool: list[int]) -> list[list[int]]:
        """Equal slices; the first ones are one larger where the pool does not divide."""
        size, more = divmod(len(pool), self.count)
        ends = np.cumsum([0, *(size + (t < more) for t in range(self.count))]).tolist()
        return [pool[a:b] for a, b in pairwise(ends)]

    def _rows(self, owned: list[list[int]]) -> list[list[int]]:
        """Of each task, the positions of its classes' recordings, ascending."""
        return [np.flatnonzero(np.isin(self.labels, classes)).tolist() for classes in owned]

    def _leak(self, mixed: list[list[int]]) -> None:
        """Take the first recordings of every task's blurry ones and deal them out again."""
        if self.stochastic:
            total = sum(map(len, mixed)) * self.blurry_percent // 100
            if total == 0:
                return
            ends = [0, *self._cut_points(total), total]
            quotas = [b - a for a, b in pairwise(ends)]
        else:
            quotas = [len(rows) * self.blurry_percent // 100 for rows in mixed]
        pool: list[int] = []
        for task, quota in enumerate(quotas):
            pool += mixed[task][:quota]
            mixed[task] = mixed[task][quota:]
        pool = self._shuffled(pool)
        self.leaked = list(pool)
        if not self.stochastic:
            size, more = divmod(len(pool), self.count)
            # The published sampler loses the remainder.
            quotas = [size + (t < more and not self.legacy) for t in range(self.count)]
        start = 0
        for task, quota in enumerate(quotas):
            mixed[task] = mixed[task] + pool[start : start + quota]
            start += quota

    def _permutation(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self.random).tolist()

    def _shuffled(self, rows: list[int]) -> list[int]:
        return [rows[i] for i in self._permutation(len(rows))]
