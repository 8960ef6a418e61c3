"""What a fine-tuned classifier is worth on a set of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from continual.evaluation import DENSE_CLASSES
from continual.metrics import confusion_matrix
from multimodal.evaluation import multi_label
from multimodal.evaluation.intervals import REPLICATES, accuracy_estimates
from multimodal.evaluation.scores import Scores
from multimodal.models.align_task import numbered

MULTI_LABEL_REPLICATES = 1_000  # each one ranks all recordings of every class
HALF = 0.5


def single_label_scores(
    scores: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    *,
    seed: int,
    groups: Sequence[str] = (),
) -> Scores:
    """scores: (N, C) probabilities; labels: (N,). ``accuracy``, ``mean_per_class_recall`` with 95 %
    intervals, and ``majority_accuracy``, of always the class that has most recordings here. groups:
    see ``resampled``. Of each class ``one_vs_rest_auroc``, and the ``confusion_matrix``.
    """
    count = len(class_names)
    own = scores[np.arange(len(labels)), labels]
    ranks = (scores >= own[:, None]).sum(axis=1)  # a tie counts against us
    keys = {"top1": "accuracy", "recall": "mean_per_class_recall"}
    together, told = resampled(groups)
    metrics, intervals = accuracy_estimates(
        labels, ranks, count, keys, replicates=REPLICATES, seed=seed, groups=together
    )
    numbers, hits = (
        np.bincount(labels, minlength=count),
        np.bincount(labels[ranks == 1], minlength=count),
    )
    metrics["majority_accuracy"] = float(numbers.max() / len(labels))
    found = Scores(dict(metrics), intervals, told)
    found.metrics["per_class_accuracy"] = {  # pyright: ignore
        name: float(hit / number) if number else None
        for name, hit, number in zip(class_names, hits, numbers, strict=True)
    }
    present = (labels[:, None] == np.arange(count)).astype(np.float32)
    areas = multi_label.auroc(scores, present)
    found.metrics["one_vs_rest_auroc"] = {  # pyright: ignore
        name: None if np.isnan(area) else float(area)
        for name, area in zip(class_names, areas, strict=True)
    }
    if count <= DENSE_CLASSES:
        table = confusion_matrix(labels, scores.argmax(1), count)
        found.metrics["confusion_matrix"] = table.tolist()  # pyright: ignore
    return found


def multi_label_scores(
    scores: np.ndarray,
    targets: np.ndarray,
    class_names: tuple[str, ...],
    *,
    seed: int,
    groups: Sequence[str] = (),
    replicates: int = MULTI_LABEL_REPLICATES,
) -> Scores:
    """scores: (N, C) probabilities; targets: (N, C), NaN unknown. ``macro_auroc`` and
    ``mean_average_precision`` with 95 % intervals, over the classes that have positives and
    negatives here, and ``mean_average_precision_chance``, what a random order comes to: the mean
    prevalence. groups: see ``resampled``. replicates: 0 for no intervals.
    """
    areas = multi_label.auroc(scores, targets)
    precisions = multi_label.average_precision(scores, targets)
    found = Scores(
        {
            "macro_auroc": multi_label.macro(areas),
            "mean_average_precision": multi_label.macro(precisions),
            "num_scored_classes": int((~np.isnan(areas)).sum()),
        }
    )
    found.metrics["per_class_auroc"] = {  # pyright: ignore
        name: None if np.isnan(area) else float(area)
        for name, area in zip(class_names, areas, strict=True)
    }
    scored = ~np.isnan(areas)
    if not scored.any():
        return found
    prevalence = (targets == 1).sum(axis=0)[scored] / (~np.isnan(targets)).sum(axis=0)[scored]
    found.metrics["mean_average_precision_chance"] = float(prevalence.mean())
    together, found.details = resampled(groups)
    drawn = np.arange(len(scores)) if together is None else together
    found.intervals = multi_label.intervals(
        [scores], targets, groups=[str(g) for g in drawn], replicates=replicates, seed=seed
    )
    return found


def resampled(groups: Sequence[str]) -> tuple[np.ndarray | None, dict[str, Any]]:
    """What a bootstrap draws, (N,) numbers of groups or None for recordings, and that in words.

    groups: of each recording its patient, record, speaker or source, "" if that is not known. They
    are drawn whole where there are two or more and some has several recordings.
    """
    numbers = numbered(groups)
    count = len(np.unique(numbers))
    if not 2 <= count < len(numbers):
        return None, {"resampled": "recordings"}
    return numbers, {"resampled": "groups", "num_groups": count}


def counts_at(
    scores: np.ndarray,
    targets: np.ndarray,
    thresholds: Sequence[float],
    class_names: tuple[str, ...],
) -> dict[str, list[int]]:
    """Class -> true positives, false negatives, false positives, true negatives of multi-label
    recordings whose label is known; from its threshold on, a class is said to be present.
    """
    found = {}
    for name, score, target, least in zip(
        class_names, scores.T, targets.T, thresholds, strict=True
    ):
        said, sides = score >= least, ((1, True), (1, False), (0, True), (0, False))
        found[name] = [int(((target == t) & (said == s)).sum()) for t, s in sides]
    return found


def best_thresholds(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    lowest: float = 0.0,
    otherwise: float | np.ndarray = HALF,
) -> tuple[float, ...]:
    """One a class: that of the highest F1 on these recordings, half-way to the next lower score; of
    equals the highest. lowest: what a score can be at least. otherwise: for a class without
    positives or negatives here; one, or (C,).
    """
    found: list[float] = []
    for score, target in zip(scores.T.astype(np.float64), targets.T, strict=True):
        known = ~np.isnan(target)
        score, target = score[known], target[known] == 1
        if not target.any() or target.all():
            found.append(float(np.broadcast_to(otherwise, scores.shape[1:])[len(found)]))
            continue
        steps, owner = np.unique(-score, return_inverse=True)
        steps, count = -steps, len(steps)
        chosen = np.bincount(owner, minlength=count).cumsum()
        hits = np.bincount(owner[target], minlength=count).cumsum()
        best = int(np.argmax(2 * hits / (chosen + target.sum())))
        below = steps[best + 1] if best + 1 < count else lowest
        found.append(float((steps[best] + below) / 2))
    return tuple(found)
