"""Point estimates with their 95 % intervals, by the bootstrap over recordings, or over groups.

A statistic is a function of how often each cell was drawn, where a cell is a group of recordings
that count alike (equal label and outcome, say). The point estimate is its value where every
recording was drawn once; the interval comes from samples of N recordings with replacement (Efron,
"Bootstrap methods", 1979; percentile interval). The seed makes equal runs give equal bytes.

Recordings of one patient or speaker are alike, and an interval that takes them for independent is
too narrow: given their groups, G groups are sampled with replacement, each with all it has (the
cluster bootstrap: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, 3.8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import NormalDist

import numpy as np

from multimodal.errors import UserError

LEVEL = 0.95
REPLICATES = 10_000
_NUMBERS_AT_ONCE = 2**20  # 8 MiB of int64

Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]
Intervals = dict[str, tuple[float, float]]


def estimates(
    cells: np.ndarray,
    num_cells: int,
    statistic: Statistic,
    *,
    replicates: int,
    seed: int,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> tuple[dict[str, float], Intervals]:
    """The values of a statistic and its 95 % intervals (low, high), both by key.

    cells: (N,) int64, the cell of each recording, in [0, num_cells). statistic: counts (B,
    num_cells) of B samples -> (B,) values by key; NaN where a sample has no value, which the
    interval leaves out. replicates: number of samples; 0 gives no intervals (UserError if less).
    groups: (N,) int64, equal where recordings are sampled together; None: each alone. strata: (N,)
    int64, equal where recordings are sampled from one another, so that every sample has as many of
    each stratum (not together with groups).
    """
    assert groups is None or strata is None, "groups within strata are not sampled"
    if replicates < 0:
        raise UserError(f"replicates is {replicates}; give 0 for no intervals, or {REPLICATES:,}.")
    once = statistic(np.bincount(cells, minlength=num_cells)[None])
    values = {key: float(value[0]) for key, value in once.items()}
    if not replicates:
        return values, {}
    if groups is not None:
        samples = _grouped_samples(cells, num_cells, groups, replicates, seed)
    elif strata is not None:
        samples = _stratified_samples(cells, num_cells, strata, replicates, seed)
    else:
        samples = _samples(cells, num_cells, replicates, seed)
    drawn = [statistic(counts) for counts in samples]
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    intervals = {}
    for key in values:
        low, high = np.nanquantile(np.concatenate([part[key] for part in drawn]), tails)
        intervals[key] = (float(low), float(high))
    return values, intervals


def _samples(cells: np.ndarray, num_cells: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yields counts (B, num_cells) int64, ``replicates`` rows in all."""
    generator, count = np.random.default_rng(seed), len(cells)
    at_once = max(1, _NUMBERS_AT_ONCE // max(count, num_cells))
    for first in range(0, replicates, at_once):
        rows = min(at_once, replicates - first)
        drawn = cells[generator.integers(count, size=(rows, count))]
        drawn += num_cells * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * num_cells)
        yield counts.reshape(rows, num_cells)


def _grouped_samples(
    cells: np.ndarray, num_cells: int, groups: np.ndarray, replicates: int, seed: int
) -> Iterator[np.ndarray]:
    """As ``_samples``, of groups: what a group has counts as often as the group was drawn."""
    from scipy.sparse import csr_matrix

    names, number = np.unique(groups, return_inverse=True)
    ones = np.ones(len(cells), dtype=np.int64)
    cells_of_group = csr_matrix((ones, (number, cells)), shape=(len(names), num_cells))
    every = np.arange(len(names))
    for drawn in _samples(every, len(names), replicates, seed):
        at_once = max(1, _NUMBERS_AT_ONCE // num_cells)
        for first in range(0, len(drawn), at_once):
            yield np.asarray((cells_of_group.T @ drawn[first : first + at_once].T).T)


def _stratified_samples(
    cells: np.ndarray, num_cells: int, strata: np.ndarray, replicates: int, seed: int
) -> Iterator[np.ndarray]:
    """As ``_samples``, each stratum by itself: its counts by cell are multinomial."""
    generator = np.random.default_rng(seed)
    own = [np.bincount(cells[strata == s], minlength=num_cells) for s in np.unique(strata)]
    at_once = max(1, _NUMBERS_AT_ONCE // num_cells)
    for first in range(0, replicates, at_once):
        rows = min(at_once, replicates - first)
        drawn = [generator.multinomial(n.sum(), n / n.sum(), size=rows) for n in own]
        yield np.sum(drawn, axis=0)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share, hits of count >= 1, that also holds at 0 and at 1.

    Wilson, "Probable inference", 1927: the shares p with |hits / count - p| <= z sqrt(p (1 - p) /
    count). The bootstrap's interval of a share of 0 or 1 is a point.
    """
    square = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    share, scale = hits / count, 1 + square / count
    centre = (share + square / (2 * count)) / scale
    half = math.sqrt(square * (share * (1 - share) + square / (4 * count)) / count) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def weighted_median(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(B,) medians of samples that have ``values`` (n,) as often as ``counts`` (B, n) says.

    Of an even number of values it is the mean of the two in the middle.
    """
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(counts[:, order], axis=1)
    total = upto[:, -1:]
    lower = np.argmax(upto > (total - 1) // 2, axis=1)
    upper = np.argmax(upto > total // 2, axis=1)
    return (values[order][lower] + values[order][upper]) / 2


def accuracy_estimates(
    labels: np.ndarray,
    ranks: np.ndarray,
    num_classes: int,
    keys: Mapping[str, str],
    *,
    replicates: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[dict[str, float], Intervals]:
    """Accuracy and recall from the rank of each recording's own class.

    labels, ranks: (N,) int64, ranks from 1. keys: "top1", "top5" and "recall" -> the key it gets;
    those without one are left out. top1, top5: share of recordings with a rank of at most 1, 5.
    recall: mean, over classes with a recording, of the share of a class's recordings of rank 1.
    groups: as in ``estimates``.
    """
    grade = (ranks <= 1).astype(np.int64) + (ranks <= 5)

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        table = counts.reshape(len(counts), num_classes, 3)
        of_class = table.sum(axis=2)
        first, number = table[:, :, 2], of_class.sum(axis=1)
        recalls = np.divide(first, of_class, out=np.zeros(first.shape), where=of_class > 0)
        values = {
            "top1": first.sum(axis=1) / number,
            "top5": table[:, :, 1:].sum(axis=(1, 2)) / number,
            "recall": recalls.sum(axis=1) / (of_class > 0).sum(axis=1),
        }
        return {key: values[name] for name, key in keys.items()}

    cells = 3 * labels + grade
    return estimates(
        cells, 3 * num_classes, statistic, replicates=replicates, seed=seed, groups=groups
    )
