"""Zero-shot classification: which class's prompts are nearest (CLIP, arXiv:2103.00020).

Scores are cosines; a temperature would change no rank. Ties are broken against the model: the rank
of a recording's own class is 1 + the number of OTHER classes that score at least as high, so a
model that embeds everything alike has an accuracy of 0, not of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from multimodal.errors import UserError
from multimodal.evaluation import multi_label
from multimodal.evaluation.class_vectors import ClassVectors
from multimodal.evaluation.embeddings import (
    TIE,
    Embeddings,
    Labels,
    check_width,
    class_ids,
    unit_rows,
)
from multimodal.evaluation.intervals import REPLICATES, Intervals, accuracy_estimates, estimates

TOP5_CLASSES = 10  # with fewer, chance alone would name the class within five guesses half the time
MULTI_LABEL_REPLICATES = 1_000  # each ranks all recordings of every class
_NUMBERS_AT_ONCE = 2**22
# One class takes more than this share of the answers and has less than that of the recordings.
COLLAPSE, COLLAPSE_SHARE = 0.5, 0.2


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """metrics: fractions; zero_shot_top1, zero_shot_top5 (of at least 10 classes),
    zero_shot_mean_per_class_recall (over classes with recordings), and what needs no model:
    zero_shot_chance (1/C) and zero_shot_majority (share of the most frequent class).

    intervals: (low, high) of 95 %, of the first three. predictions: (N,) int64, the first of equal
    classes. ranks: (N,) int64 of the own class, from 1. warnings: sentences for the reader.
    """

    metrics: dict[str, float]
    intervals: Intervals
    predictions: np.ndarray
    ranks: np.ndarray
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class MultiLabelZeroShot:
    """metrics: mean_average_precision and macro_auroc over the classes that have present and absent
    recordings (num_scored_classes), mean_average_precision_chance (mean share of present ones).

    A class whose recordings all have it is left out like one that none has: every order of them is
    perfect. intervals: (low, high) of 95 % of mean_average_precision. scores: (N, C) cosines.
    """

    metrics: dict[str, float | None]
    intervals: Intervals
    scores: np.ndarray


def zero_shot(
    embeddings: Embeddings,
    labels: Labels,
    classes: ClassVectors,
    *,
    recordings: Sequence[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> ZeroShot:
    """Classify N recordings, each of one class.

    embeddings: (N, D), in the space of the texts. labels: (N,) positions in the class names.
    recordings: N names for errors. replicates, seed: of the bootstrap.
    UserError: embeddings with NaN (all named at once), other widths, labels without a class.
    """
    signals = unit_rows(embeddings, recordings)
    check_width(signals, classes.vectors)
    names, count = classes.class_names, len(classes.class_names)
    truth = class_ids(labels, len(signals), count)
    predictions, ranks = ranked(signals, classes.vectors, truth)
    keys = {"top1": "zero_shot_top1", "recall": "zero_shot_mean_per_class_recall"}
    if count >= TOP5_CLASSES:
        keys["top5"] = "zero_shot_top5"
    metrics, intervals = accuracy_estimates(
        truth, ranks, count, keys, replicates=replicates, seed=seed
    )
    numbers = np.bincount(truth, minlength=count)
    metrics["zero_shot_chance"] = 1 / count
    metrics["zero_shot_majority"] = float(numbers.max() / len(truth))
    answers = np.bincount(predictions, minlength=count)
    return ZeroShot(metrics, intervals, predictions, ranks, _warnings(names, numbers, answers))


def zero_shot_multi_label(
    embeddings: Embeddings,
    targets: ArrayLike,
    classes: ClassVectors,
    *,
    recordings: Sequence[str] | None = None,
    replicates: int = MULTI_LABEL_REPLICATES,
    seed: int = 0,
) -> MultiLabelZeroShot:
    """Rank the recordings by the score of each class.

    targets: (N, C), 1 present, 0 absent, NaN unknown (left out of its class). The rest as
    ``zero_shot``; replicates are fewer because each one ranks all recordings of every class.
    """
    signals = unit_rows(embeddings, recordings)
    check_width(signals, classes.vectors)
    truth = np.asarray(targets, dtype=np.float64)
    if truth.shape != (len(signals), len(classes.class_names)):
        raise UserError(
            f"targets have shape {truth.shape}; expected ({len(signals)}, "
            f"{len(classes.class_names)}), one row a recording and one column a class."
        )
    # Equal cosines must be equal numbers here: multi_label compares them exactly.
    scores = (signals @ classes.vectors.T).numpy().round(12)
    areas = multi_label.auroc(scores, truth)
    scored = ~np.isnan(areas)
    metrics: dict[str, float | None] = {
        "mean_average_precision": multi_label.macro(multi_label.average_precision(scores, truth)),
        "macro_auroc": multi_label.macro(areas),
        "mean_average_precision_chance": multi_label.macro(
            [np.nanmean(truth[:, c]) for c in np.flatnonzero(scored)]
        ),
        "num_scored_classes": int(scored.sum()),
    }
    if not scored.any():
        return MultiLabelZeroShot(metrics, {}, scores)

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        values = multi_label.resampled_average_precision(scores, truth, counts)
        defined = ~np.isnan(values)
        total, number = np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1)
        mean = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
        return {"mean_average_precision": mean}

    each = np.arange(len(signals))
    _, intervals = estimates(each, len(each), statistic, replicates=replicates, seed=seed)
    return MultiLabelZeroShot(metrics, intervals, scores)


def ranked(signals: Tensor, vectors: Tensor, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and ranks of the own class, both (N,) int64; see the module and ``ZeroShot``.

    signals: (N, D), vectors: (C, D), both float64 unit rows. No (N, C) matrix is made of many rows.
    """
    predictions, ranks = [], []
    rows = max(1, _NUMBERS_AT_ONCE // len(vectors))
    for block, own in zip(signals.split(rows), torch.from_numpy(labels).split(rows), strict=True):
        scores = block @ vectors.T
        threshold = scores.gather(1, own[:, None]) - TIE
        ranks.append((scores >= threshold).sum(dim=1))
        best = scores.max(dim=1, keepdim=True).values - TIE
        predictions.append((scores >= best).int().argmax(dim=1))
    return torch.cat(predictions).numpy(), torch.cat(ranks).numpy()


def _warnings(names: Sequence[str], numbers: np.ndarray, answers: np.ndarray) -> tuple[str, ...]:
    """numbers, answers: (C,) recordings of each class, and answers that name it."""
    warnings, total = [], numbers.sum()
    absent = [name for name, number in zip(names, numbers, strict=True) if not number]
    if absent:
        more = ", ..." if len(absent) > 5 else ""
        warnings.append(
            f"{len(absent)} of {len(names)} classes have no recording here: "
            f"{', '.join(absent[:5])}{more}"
        )
    top = int(answers.argmax())
    if answers[top] > COLLAPSE * total and numbers[top] < COLLAPSE_SHARE * total:
        warnings.append(
            f"prompt or checkpoint collapse: {names[top]!r} gets {answers[top] / total:.0%} of the "
            f"answers and has {numbers[top] / total:.0%} of the recordings"
        )
    return tuple(warnings)
