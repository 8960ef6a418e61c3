"""Metrics of online streams, from raw counts of anytime evaluations (NumPy only).

Definitions of Si-Blurry (Moon et al., ICCV 2023) and i-Blurry (Koh et al., ICLR 2022). Beside the
published overall accuracy (correct / tested, over exposed classes) each has a balanced form, the
mean over exposed classes of their accuracies. F_last is without the released code's 1e-5. All are
fractions in [0, 1], F_last in [-1, 1], and None where undefined; points at which nothing is
defined are left out. Points are in stream order: ValueError where their counts decrease, or where
they differ in kind or in their number of classes C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class AnytimePoint:
    """After ``count`` stream recordings, of each of C classes: test recordings named ``correct``ly
    and ``total``; 0 of them where a class is not exposed. ValueError for impossible counts.
    """

    count: int
    correct: list[int]
    total: list[int]

    def __post_init__(self) -> None:
        if len(self.correct) != len(self.total):
            raise ValueError(f"correct has {len(self.correct)} classes, total {len(self.total)}.")
        pairs = list(zip(self.correct, self.total, strict=True))
        if self.count < 0 or any(not 0 <= right <= all_ for right, all_ in pairs):
            raise ValueError(f"impossible counts after {self.count} recordings: {pairs}.")

    @property
    def accuracies(self) -> Float64[np.ndarray, " classes"]:
        """(C,) float64 in [0, 1], NaN where a class is not exposed."""
        right, total = np.array(self.correct, dtype=float), np.array(self.total, dtype=float)
        return np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)

    @property
    def overall(self) -> float | None:
        """Correct / tested, or None if nothing is exposed."""
        total = sum(self.total)
        return sum(self.correct) / total if total else None

    @property
    def balanced(self) -> float | None:
        """Mean over exposed classes of their accuracies, or None."""
        return _mean(self.accuracies)


@dataclass(frozen=True)
class AurocPoint:
    """Of multi-label data: AUROC of each of C classes in [0, 1], None where a class is not exposed
    or has none. ValueError for other values.
    """

    count: int
    auroc: list[float | None]

    def __post_init__(self) -> None:
        if self.count < 0 or any(a is not None and not 0 <= a <= 1 for a in self.auroc):
            raise ValueError(f"impossible AUROCs after {self.count} recordings: {self.auroc}.")

    @property
    def accuracies(self) -> Float64[np.ndarray, " classes"]:
        """(C,) float64: the AUROCs, NaN where there is none."""
        return np.array([np.nan if a is None else a for a in self.auroc], dtype=float)

    @property
    def overall(self) -> float | None:
        """The macro-AUROC: the mean over exposed classes where it is defined, or None."""
        return _mean(self.accuracies)

    balanced = overall


Point = AnytimePoint | AurocPoint


def periodic_counts(stream_length: int, period: int) -> list[int]:
    """The multiples k * period, k >= 1, below the length: when periodic evaluations are due."""
    if stream_length < 0 or period < 1:
        raise ValueError(f"stream_length={stream_length}, period={period}: need >= 0 and >= 1.")
    return list(range(period, stream_length, period))


def a_auc(points: Sequence[Point], *, balanced: bool = False) -> float | None:
    """A_AUC, the published area under the curve: the mean of the periodic accuracies.

    points: one for each k * period < N; the one at N does not belong to it. None if there is none.
    """
    _check(points)
    return _mean(_values(points, balanced))


def a_auc_trapezoid(points: Sequence[Point], *, balanced: bool = False) -> float | None:
    """The area by trapezoids over the true counts, divided by (last - first count).

    points: periodic ones and the one at N; two at one count enclose no area. None for fewer than
    two different counts.
    """
    _check(points)
    values = _values(points, balanced)
    known = ~np.isnan(values)
    counts, values = np.array([p.count for p in points], dtype=float)[known], values[known]
    if not len(counts) or counts[-1] == counts[0]:
        return None
    area = np.sum(np.diff(counts) * (values[1:] + values[:-1]) / 2)
    return float(area / (counts[-1] - counts[0]))


def a_avg(task_points: Sequence[Point], balanced: bool = False) -> float | None:
    """A_avg: the mean over tasks of the accuracy right after each. At least one task."""
    _check_tasks(task_points)
    return _mean(_values(task_points, balanced))


def a_last(task_points: Sequence[Point], balanced: bool = False) -> float | None:
    """A_last: the accuracy right after the last task. At least one task."""
    _check_tasks(task_points)
    return _mean(_values(task_points[-1:], balanced))


def f_last(task_points: Sequence[Point]) -> float | None:
    """F_last, in [-1, 1]: what classes lost since the task after which they were known best.

    Mean over classes j with max_{t < T} a[t, j] > 0 of max_{t < T} a[t, j] - a[T, j], a[t, j] the
    accuracy on class j after task t (0 where not exposed): classes first met in the last task, or
    never known, do not count. None if no class does. Of AUROCs, a class that has none after the
    last task is left out. At least one task.
    """
    _check_tasks(task_points)
    if len(task_points) == 1:
        return None
    scores, end = np.stack([p.accuracies for p in task_points]), task_points[-1]
    best = np.nan_to_num(scores[:-1], nan=0.0).max(axis=0)
    final = scores[-1] if isinstance(end, AurocPoint) else np.nan_to_num(scores[-1], nan=0.0)
    return _mean((best - final)[best > 0])


def online_summary(
    periodic: Sequence[Point], at_end: Point | None, task_points: Sequence[Point]
) -> dict[str, float | None]:
    """Every metric of an online stream under its key in ``result.json``; None where undefined.

    periodic: of each k * period < N. at_end: at N, None if not evaluated there. task_points: after
    each task, at least one. ``*_balanced`` keys where that differs, so not for AUROCs.
    """
    _check_tasks(task_points)
    curve = [*periodic, *([] if at_end is None else [at_end])]
    _check(curve, task_points)
    values: dict[str, float | None] = {}
    for suffix in ("", "_balanced"):
        if suffix and isinstance(task_points[0], AurocPoint):
            continue
        balanced = bool(suffix)
        values[f"a_auc{suffix}"] = a_auc(periodic, balanced=balanced)
        values[f"a_auc_trapezoid{suffix}"] = a_auc_trapezoid(curve, balanced=balanced)
        values[f"a_avg{suffix}"] = a_avg(task_points, balanced)
        values[f"a_last{suffix}"] = a_last(task_points, balanced)
    return {**values, "f_last": f_last(task_points)}


def _values(points: Sequence[Point], balanced: bool) -> np.ndarray:
    """(len(points),) float64, NaN where nothing is defined."""
    values = [p.balanced if balanced else p.overall for p in points]
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _check_tasks(task_points: Sequence[Point]) -> None:
    if not task_points:
        raise ValueError("no evaluation after a task: a stream has at least one.")
    _check(task_points)


def _check(*series: Sequence[Point]) -> None:
    kinds = {(type(p).__name__, len(p.accuracies)) for points in series for p in points}
    if len(kinds) > 1:
        raise ValueError(f"points differ in kind or number of classes: {sorted(kinds)}.")
    for points in series:
        counts = [p.count for p in points]
        if counts != sorted(counts):
            raise ValueError(f"counts must not decrease, got {counts}.")
