"""Probes of frozen embeddings with labels: logistic regression, and cosine nearest neighbours.

Both are deterministic: L-BFGS from zero weights, and votes whose ties have a rule.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.errors import UserError
from multimodal.evaluation import multi_label
from multimodal.evaluation.embeddings import (
    TIE,
    Embeddings,
    Labels,
    class_ids,
    finite_rows,
    unit_rows,
)
from multimodal.evaluation.intervals import REPLICATES, Intervals, accuracy_estimates

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_NUMBERS_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """embeddings: (N, D). labels: (N,) class ids. recordings: N names for errors."""

    embeddings: Embeddings
    labels: Labels
    recordings: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class Probe:
    """metrics, in [0, 1]: METHOD_accuracy and METHOD_mean_per_class_recall (over the classes of
    the test recordings), METHOD linear_probe or knn. intervals: (low, high) of 95 %.

    predictions: (N,) int64. settings: what was used, such as the chosen C. warnings: sentences for
    the reader.
    """

    metrics: dict[str, float]
    intervals: Intervals
    predictions: np.ndarray
    settings: dict[str, float]
    warnings: tuple[str, ...]


def linear_probe(
    train: LabelledSet,
    test: LabelledSet,
    num_classes: int,
    *,
    validation: LabelledSet | None = None,
    strength: float = 1.0,
    max_iterations: int = 1_000,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Probe:
    """Multinomial logistic regression (scikit-learn, L2) on standardised embeddings.

    Each dimension has the mean and standard deviation of the training recordings taken out. C of
    scikit-learn is ``strength``; with ``validation`` it is the one of STRENGTHS that is the most
    accurate there (of equals the smallest), still trained on ``train`` alone. replicates, seed: of
    the bootstrap over test recordings. UserError: embeddings with NaN (all named at once), sets
    that do not fit together, a single training class.
    """
    if strength <= 0:
        raise UserError(f"strength is {strength}; scikit-learn's C must be positive, such as 1.0.")
    features, labels = _training(train, num_classes)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1.0
    known = (features - mean) / scale
    tested, truth = _checked(test, num_classes, features.shape[1])
    if validation is not None:
        seen, answers = _checked(validation, num_classes, features.shape[1])
        scores = []
        for candidate in STRENGTHS:
            model, _ = _fitted(known, labels, candidate, max_iterations)
            scores.append(np.mean(model.predict((seen - mean) / scale) == answers))
        strength = STRENGTHS[int(np.argmax(scores))]
    model, warnings = _fitted(known, labels, strength, max_iterations)
    predictions = np.asarray(model.predict((tested - mean) / scale))
    metrics, intervals = _estimates(
        "linear_probe", truth, predictions, num_classes, replicates=replicates, seed=seed
    )
    return Probe(metrics, intervals, predictions, {"strength": strength}, warnings)


def probe_metrics(train: LabelledSet, test: LabelledSet, num_classes: int) -> dict[str, float]:
    """The point estimates of ``linear_probe`` and, with 20 neighbours at most, ``knn``; none if
    there is a single training class.
    """
    if len(np.unique(train.labels)) < 2:
        return {}
    fewer = min(20, len(train.labels))
    probes = (
        linear_probe(train, test, num_classes, replicates=0),
        knn(train, test, num_classes, neighbours=fewer, replicates=0),
    )
    return {key: value for probe in probes for key, value in probe.metrics.items()}


@dataclass(frozen=True, eq=False)
class MultiLabelProbe:
    """areas: (C,) AUROC of each class; NaN: it cannot be told. intervals: of the macro_auroc and
    mean_average_precision of the classes that can.
    """

    areas: np.ndarray
    intervals: Intervals


def multi_label_probe(
    train: Embeddings,
    known: np.ndarray,
    test: Embeddings,
    truth: np.ndarray,
    *,
    groups: Sequence[str] = (),
    replicates: int = 0,
    seed: int = 0,
) -> MultiLabelProbe:
    """A logistic regression for each class alone.

    train, test: (N, D) and (M, D). known, truth: (N, C) and (M, C), 1 present, 0 absent, NaN
    unknown (left out of its class). Embeddings are standardised as in ``linear_probe``, C is 1.
    groups: (M,) patients, whom the bootstrap samples; needed for ``replicates``.
    UserError: embeddings with NaN.
    """
    features, tested = finite_rows(train).numpy(), finite_rows(test).numpy()
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1.0
    features, tested = (features - mean) / scale, (tested - mean) / scale
    areas, scores = np.full(known.shape[1], np.nan), np.zeros(truth.shape)
    for c in range(known.shape[1]):
        here, there = ~np.isnan(known[:, c]), ~np.isnan(truth[:, c])
        answers = known[here, c].astype(np.int64)
        if len(np.unique(answers)) == 2 and there.any():
            model, _ = _fitted(features[here], answers, 1.0, 1_000)
            scores[:, c] = model.decision_function(tested)
            areas[c] = multi_label.auroc(scores[there, c, None], truth[there, c, None])[0]
    told = ~np.isnan(areas)
    if not replicates or not told.any():
        return MultiLabelProbe(areas, {})
    own, answers = [scores[:, told]], truth[:, told]
    found = multi_label.intervals(own, answers, groups=groups, replicates=replicates, seed=seed)
    return MultiLabelProbe(areas, found)


def knn(
    train: LabelledSet,
    test: LabelledSet,
    num_classes: int,
    *,
    neighbours: int = 20,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Probe:
    """The class with the most votes among the training recordings of the highest cosines.

    Of equal cosines at the end of the list the first recordings are neighbours. Equal votes: the
    class of the higher sum of cosines; equal again: the lower id. A part of the test recordings is
    compared with all training recordings at a time.
    UserError as ``linear_probe``, and for more neighbours than training recordings.
    """
    _, labels = _training(train, num_classes)
    memory = unit_rows(train.embeddings)
    if not 1 <= neighbours <= len(memory):
        raise UserError(
            f"neighbours is {neighbours}; give 1 to {len(memory)}, the number of training "
            "recordings."
        )
    _, truth = _checked(test, num_classes, memory.shape[1])
    rows = max(1, _NUMBERS_AT_ONCE // len(memory))
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels), num_classes).double()
    parts = []
    for block in unit_rows(test.embeddings).split(rows):
        cosines = block @ memory.T
        chosen = _nearest(cosines, neighbours).double()
        votes, closeness = chosen @ one_hot, (chosen * cosines) @ one_hot
        closeness[votes < votes.max(dim=1, keepdim=True).values] = -torch.inf
        best = closeness.max(dim=1, keepdim=True).values - TIE
        parts.append((closeness >= best).int().argmax(dim=1).numpy())
    predictions = np.concatenate(parts)
    metrics, intervals = _estimates(
        "knn", truth, predictions, num_classes, replicates=replicates, seed=seed
    )
    return Probe(metrics, intervals, predictions, {"neighbours": neighbours}, ())


def _nearest(cosines: Tensor, neighbours: int) -> Tensor:
    """(B, N) bool: the ``neighbours`` highest of each row; of equals at the end, the first."""
    last = cosines.topk(neighbours, dim=1).values[:, -1:]
    closer = cosines > last + TIE
    equal = (cosines >= last - TIE) & ~closer
    return closer | (equal & (equal.cumsum(dim=1) <= neighbours - closer.sum(dim=1, keepdim=True)))


def _checked(part: LabelledSet, num_classes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    features = finite_rows(part.embeddings, part.recordings).numpy()
    if features.shape[1] != width:
        raise UserError(
            f"training embeddings have {width} dimensions, others {features.shape[1]}; embed all "
            "recordings with one encoder."
        )
    return features, class_ids(part.labels, len(features), num_classes)


def _training(train: LabelledSet, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    features = finite_rows(train.embeddings, train.recordings).numpy()
    labels = class_ids(train.labels, len(features), num_classes)
    if len(np.unique(labels)) < 2:
        raise UserError(
            f"all {len(labels)} training recordings are of class {labels[0]}; a probe needs two "
            "classes."
        )
    return features, labels


def _fitted(
    features: np.ndarray, labels: np.ndarray, strength: float, max_iterations: int
) -> tuple[Any, tuple[str, ...]]:
    """The fitted scikit-learn model, and a warning if it stopped early."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=max_iterations)
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore", ConvergenceWarning)  # told in our own words
        model.fit(features, labels)
    if model.n_iter_.max() < max_iterations:
        return model, ()
    return model, (
        f"the linear probe stopped after {max_iterations} iterations before it had converged; "
        "raise max_iterations",
    )


def _estimates(
    method: str,
    truth: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    *,
    replicates: int,
    seed: int,
) -> tuple[dict[str, float], Intervals]:
    keys = {"top1": f"{method}_accuracy", "recall": f"{method}_mean_per_class_recall"}
    ranks = np.where(predictions == truth, 1, num_classes + 1)
    return accuracy_estimates(truth, ranks, num_classes, keys, replicates=replicates, seed=seed)
