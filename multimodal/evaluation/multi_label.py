"""Metrics of multi-label predictions: AUROC and average precision of each class (NumPy only).

``scores``: (N, C), higher is more likely, ties and -inf allowed, no NaN. ``targets``: (N, C), 1
present, 0 absent, NaN unknown; unknown cells are left out of their class. A class without positives
or without negatives has no score: it is NaN here, never 0 or 0.5, and macro means leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from multimodal.evaluation.intervals import Intervals, estimates


def auroc(scores: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """(C,) float64: the probability that a positive scores above a negative, ties counting half.

    The Mann-Whitney statistic: with r the mid-ranks and P, M the numbers of positives and
    negatives, (sum of r over positives - P (P + 1) / 2) / (P M).
    """
    from scipy.stats import rankdata

    result = []
    for score, target, _ in _classes(scores, targets):
        positives = int(target.sum())
        negatives = len(target) - positives
        if not positives or not negatives:
            result.append(np.nan)
            continue
        surplus = rankdata(score)[target].sum() - positives * (positives + 1) / 2
        result.append(surplus / (positives * negatives))
    return np.array(result, dtype=np.float64)


def resampled_auroc(scores: ArrayLike, targets: ArrayLike, counts: np.ndarray) -> np.ndarray:
    """(B, C) float64: ``auroc`` of B samples in which recording n stands counts[b, n] times.

    NaN where a sample has no positive or no negative. counts: (B, N) integers, at least 0.
    """
    result = []
    for score, target, known in _classes(scores, targets):
        order = np.argsort(score, kind="stable")
        score, target = score[order], target[order]
        drawn = counts[:, np.flatnonzero(known)[order]]
        first = np.flatnonzero(np.append(True, score[1:] != score[:-1])) if len(score) else []
        if not len(first):
            result.append(np.full(len(counts), np.nan))
            continue
        positives = np.add.reduceat(drawn * target, first, axis=1)
        negatives = np.add.reduceat(drawn * ~target, first, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives
        wins = (positives * (below + negatives / 2)).sum(axis=1)
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        result.append(np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0))
    return np.stack(result, axis=1)


def average_precision(scores: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """(C,) float64: sum over thresholds of precision times the recall gained.

    Recordings of equal score share one threshold, so the order of ties cannot matter.
    """
    once = np.ones((1, len(np.asarray(scores))), dtype=np.int64)
    return resampled_average_precision(scores, targets, once)[0]


def resampled_average_precision(
    scores: ArrayLike, targets: ArrayLike, counts: np.ndarray
) -> np.ndarray:
    """(B, C) float64: ``average_precision`` of B samples in which recording n stands counts[b, n]
    times, for the bootstrap. counts: (B, N) integers, at least 0.
    """
    result = []
    for score, target, known in _classes(scores, targets):
        if not len(score):
            result.append(np.full(len(counts), np.nan))
            continue
        order = np.argsort(-score, kind="stable")
        score, target = score[order], target[order]
        last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
        drawn = counts[:, np.flatnonzero(known)[order]]
        above = np.cumsum(drawn, axis=1)[:, last]
        hits = np.cumsum(drawn * target, axis=1)[:, last]
        positives, total = hits[:, -1:], above[:, -1:]
        precision = hits / np.maximum(above, 1)  # 0 / 1 before the first drawn recording
        gained = np.diff(hits, axis=1, prepend=0) / np.maximum(positives, 1)
        defined = ((positives > 0) & (positives < total))[:, 0]
        result.append(np.where(defined, (gained * precision).sum(axis=1), np.nan))
    return np.stack(result, axis=1) if result else np.empty((len(counts), 0))


def intervals(
    scores: Sequence[np.ndarray],
    targets: np.ndarray,
    *,
    groups: Sequence[str],
    replicates: int,
    seed: int,
) -> Intervals:
    """Of 95 % of macro_auroc and mean_average_precision, groups (patients) sampled with
    replacement; of several scorers, (N, C) each, of their mean. groups: of the N recordings. Some
    class has positives and negatives.
    """
    number = np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1]
    once = np.ones((1, len(targets)), dtype=np.int64)
    kinds = {"macro_auroc": resampled_auroc, "mean_average_precision": resampled_average_precision}
    scored = ~np.isnan(resampled_auroc(scores[0], targets, once)[0])

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        drawn, result = counts[:, number], {}
        for key, measure in kinds.items():
            values = np.mean([measure(s, targets, drawn)[:, scored] for s in scores], axis=0)
            there = ~np.isnan(values)
            total = np.where(there, values, 0).sum(axis=1)
            result[key] = np.divide(
                total, there.sum(axis=1), out=np.full(len(total), np.nan), where=there.any(axis=1)
            )
        return result

    every = np.arange(number.max() + 1)
    return estimates(every, len(every), statistic, replicates=replicates, seed=seed)[1]


def macro(values: ArrayLike) -> float | None:
    """The mean of the classes that have a value; None if none has."""
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else None


def _classes(
    scores: ArrayLike, targets: ArrayLike
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each class its scores and its targets as bool, of the known recordings, and which (N,)
    recordings those are.
    """
    score, target = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if score.ndim != 2 or score.shape != target.shape:
        raise ValueError(
            f"scores have shape {score.shape} and targets {target.shape}; expected both (N, C)."
        )
    if np.isnan(score).any():
        raise ValueError("scores contain NaN.")
    known = ~np.isnan(target)
    if not np.isin(target[known], (0, 1)).all():
        raise ValueError("targets must be 0, 1 or NaN (unknown).")
    return [(score[k, c], target[k, c] == 1, k) for c, k in enumerate(known.T)]
