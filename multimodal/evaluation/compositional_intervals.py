"""How sure compositional scores are: of one model, and of the difference of two.

Items are sampled with replacement, those of one size from one another, 10,000 times; the interval
is the percentile one. Where a score is 0 or 1 (or each size's score is) every sample would be the
same, and Wilson's interval stands instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from multimodal.errors import UserError
from multimodal.evaluation.intervals import REPLICATES, Intervals, estimates, wilson


def score_intervals(
    hits: Mapping[str, np.ndarray],
    sizes: np.ndarray,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Intervals:
    """hits: (I,) bool by score. sizes: (I,), the n of each item. replicates 0: no intervals."""
    intervals = {}
    for key, hit in hits.items():
        if replicates and _alike(hit, sizes):
            intervals[key] = wilson(int(hit.sum()), len(hit))
        elif replicates:
            intervals[key] = _interval(hit, np.array([0.0, 1.0]), sizes, replicates, seed)
    return intervals


def differences(
    one: Mapping[str, np.ndarray],
    two: Mapping[str, np.ndarray],
    sizes: np.ndarray,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[dict[str, float], Intervals]:
    """Scores of model one minus those of model two, and their intervals, both by score.

    one, two: (I,) bool by score, of the SAME items in the same order, or (S, I) of S runs of each
    (seeds): then of their means; sizes: (I,). An item is sampled with the outcomes of both models
    (of all runs), so what both find easy or hard cancels out. Where all
    items of a size change alike (mostly: none at all) no sample differs either; the interval then
    allows for the share of other changes that Wilson's does. UserError: scores or numbers of items
    that differ.
    """
    numbers = {hit.shape[-1] for hits in (one, two) for hit in hits.values()} | {len(sizes)}
    if len(numbers) != 1 or set(one) != set(two):
        raise UserError(
            f"models scored {', '.join(map(str, sorted(numbers)))} items; a paired interval needs "
            "the same items and scores of both."
        )
    values, intervals = {}, {}
    for key in one:
        change = np.atleast_2d(one[key].astype(np.int64) - two[key])
        runs, change = len(change), change.sum(axis=0)
        values[key] = float(change.mean() / runs)
        if not replicates:
            continue
        if _alike(change, sizes):
            _, most = wilson(0, len(change))
            reach = (1 + abs(values[key])) * most
            intervals[key] = max(-1.0, values[key] - reach), min(1.0, values[key] + reach)
        else:
            steps = np.arange(-runs, runs + 1) / runs
            intervals[key] = _interval(change + runs, steps, sizes, replicates, seed)
    return values, intervals


def _alike(outcomes: np.ndarray, sizes: np.ndarray) -> bool:
    """All items of each size have the same outcome."""
    return all(len(np.unique(outcomes[sizes == n])) == 1 for n in np.unique(sizes))


def _interval(
    cells: np.ndarray, values: np.ndarray, sizes: np.ndarray, replicates: int, seed: int
) -> tuple[float, float]:
    """The interval of the mean of ``values[cells]``."""

    def mean(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": counts @ values / counts.sum(axis=1)}

    _, intervals = estimates(
        cells.astype(np.int64), len(values), mean, replicates=replicates, seed=seed, strata=sizes
    )
    return intervals["mean"]
