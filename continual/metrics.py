"""Metrics of continual learning, from the accuracy matrix and from predictions (NumPy only).

The accuracy matrix R has R[i, j] = accuracy on the test set of experience j after training on
experience i. Its shape is (T, T), or (1, T) for joint training, which has one training experience
(everything at once) and T test sets. All entries are fractions in [0, 1], the cells above the
diagonal (experiences not yet trained on) included. A metric of the stream that needs two training
experiences is None for a matrix of one row, a stream of one experience included. Indices count
from 0.

Papers: GEM = Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning" (BWT,
FWT); RWalk = Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning" (average accuracy
after each experience, forgetting); iCaRL = Rebuffi et al. 2017 (its mean over experiences).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike


def average_accuracy(matrix: ArrayLike, num_test: ArrayLike | None = None) -> float:
    """Average incremental accuracy (iCaRL): the mean over i of the accuracy after experience i.

    That accuracy (A_k of RWalk) is over the exposed test sets 0..i::

        A_i = sum_{j <= i} n_j R[i, j] / sum_{j <= i} n_j,      average = 1/T sum_i A_i

    ``num_test``: (T,) numbers n_j of test items, each at least 1. With them and disjoint test
    sets, A_i is the accuracy over all items of the exposed classes; without them every n_j = 1
    (RWalk). One row: all test sets are exposed, so this equals ``last_accuracy``.
    """
    accuracy = _accuracy_matrix(matrix)
    weights = _weights(num_test, accuracy.shape[1])
    if len(accuracy) == 1:
        return last_accuracy(accuracy, weights)
    exposed = np.tril(np.broadcast_to(weights, accuracy.shape))
    return float(np.mean((exposed * accuracy).sum(axis=1) / exposed.sum(axis=1)))


def last_accuracy(matrix: ArrayLike, num_test: ArrayLike | None = None) -> float:
    """sum_j n_j R[-1, j] / sum_j n_j: accuracy over all test sets after the last experience.

    ``num_test`` as in ``average_accuracy``.
    """
    accuracy = _accuracy_matrix(matrix)
    weights = _weights(num_test, accuracy.shape[1])
    return float((weights * accuracy[-1]).sum() / weights.sum())


def forgetting_per_experience(matrix: ArrayLike) -> Float64[np.ndarray, " known"]:
    """(T-1,) float64 in [-1, 1]: F_j = max_{i in [j, T-2]} R[i, j] - R[T-1, j]; (0,) for one row.

    Negative where the last experience improved on all before. RWalk takes the maximum over every
    i < T-1; we start at i = j, because a zero-shot accuracy from before experience j was trained
    on is not knowledge that the stream taught.
    """
    accuracy = _accuracy_matrix(matrix)
    last = len(accuracy) - 1
    best = [accuracy[j:last, j].max() for j in range(last)]
    return np.array(best, dtype=np.float64) - accuracy[last, :last]


def forgetting(matrix: ArrayLike) -> float | None:
    """Mean of ``forgetting_per_experience`` (RWalk); None for one row."""
    return _mean_or_none(forgetting_per_experience(matrix))


def backward_transfer(matrix: ArrayLike) -> float | None:
    """BWT (GEM eq. 3) = 1/(T-1) sum_{j < T-1} (R[T-1, j] - R[j, j]), in [-1, 1]; None for one row.

    -BWT is forgetting measured from the moment of learning instead of from the best moment, so
    ``forgetting >= -backward_transfer``.
    """
    accuracy = _accuracy_matrix(matrix)
    last = len(accuracy) - 1
    return _mean_or_none(accuracy[last, :last] - np.diagonal(accuracy)[:last])


def forward_transfer(matrix: ArrayLike, baseline: ArrayLike) -> float | None:
    """FWT (GEM eq. 4) = 1/(T-1) sum_{j >= 1} (R[j-1, j] - b_j), in [-1, 1]; None for one row.

    ``baseline``: (T,) accuracies b_j of the untrained model on test set j (b_0 is not used).
    """
    accuracy = _accuracy_matrix(matrix)
    untrained = np.asarray(baseline, dtype=np.float64)
    _check_vector("baseline", untrained, accuracy.shape[1])
    _check_fractions("baseline", untrained)
    if len(accuracy) == 1:
        return None
    return _mean_or_none(np.diagonal(accuracy, offset=1) - untrained[1:])


def learning_accuracy(matrix: ArrayLike) -> float | None:
    """1/T sum_j R[j, j]: accuracy on each experience just after learning it; None for one row."""
    accuracy = _accuracy_matrix(matrix)
    return None if len(accuracy) == 1 else float(np.diagonal(accuracy).mean())


def summary(
    matrix: ArrayLike, num_test: ArrayLike | None = None, baseline: ArrayLike | None = None
) -> dict[str, float | None]:
    """Every metric of the accuracy matrix under its key in ``result.json``.

    ``forward_transfer`` is None too where no ``baseline`` is given.
    """
    return {
        "average_accuracy": average_accuracy(matrix, num_test),
        "last_accuracy": last_accuracy(matrix, num_test),
        "forgetting": forgetting(matrix),
        "backward_transfer": backward_transfer(matrix),
        "forward_transfer": None if baseline is None else forward_transfer(matrix, baseline),
        "learning_accuracy": learning_accuracy(matrix),
    }


def confusion_matrix(
    labels: ArrayLike, predictions: ArrayLike, num_classes: int, *, no_prediction: bool = False
) -> Int64[np.ndarray, "{num_classes} {num_classes+no_prediction}"]:
    """Counts of (true class, predicted class) pairs, int64; row = true class.

    ``labels``: (N,) ids in [0, C). ``predictions``: (N,) ids in [0, C), or -1 where the learner
    gave no class (a decoded text that names none). Such items are wrong, and a (C, C) table has
    no honest cell for them, so -1 is refused unless ``no_prediction=True``: the table is then
    (C, C + 1) and its last column counts them. Row sums are the class counts either way, and
    ``per_class_accuracy`` takes both.
    """
    true, predicted = _pairs(labels, predictions, num_classes, no_prediction)
    columns = num_classes + no_prediction
    cells = true * columns + predicted
    return np.bincount(cells, minlength=num_classes * columns).reshape(num_classes, columns)


def confusion_cells(
    labels: ArrayLike, predictions: ArrayLike, num_classes: int, *, no_prediction: bool = False
) -> Int64[np.ndarray, "cells 3"]:
    """Those of ``confusion_matrix`` that are not zero: (true class, predicted class, count).

    In the order of its rows; at most one an item, however many classes there are.
    """
    true, predicted = _pairs(labels, predictions, num_classes, no_prediction)
    columns = num_classes + no_prediction
    cells, counts = np.unique(true * columns + predicted, return_counts=True)
    return np.stack([cells // columns, cells % columns, counts], axis=1)


def _pairs(
    labels: ArrayLike, predictions: ArrayLike, num_classes: int, no_prediction: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) rows and (N,) columns of a confusion matrix."""
    true, predicted = _class_ids("labels", labels), _class_ids("predictions", predictions)
    if true.shape != predicted.shape:
        raise ValueError(f"{len(true)} labels but {len(predicted)} predictions.")
    _check_range("labels", true, 0, num_classes)
    if not no_prediction and (predicted == -1).any():
        raise ValueError("predictions contain -1; pass no_prediction=True to count them apart.")
    _check_range("predictions", predicted, -1, num_classes)
    # Python's modulo sends -1 to the last column; without no_prediction there is no -1 here.
    return true, predicted % (num_classes + no_prediction)


def recalls(
    labels: ArrayLike, predictions: ArrayLike, num_classes: int
) -> Float64[np.ndarray, " classes"]:
    """``per_class_accuracy`` of their confusion matrix, which is not made."""
    true, predicted = _pairs(labels, predictions, num_classes, no_prediction=True)
    right = np.bincount(true[true == predicted], minlength=num_classes)
    return _shares(right, np.bincount(true, minlength=num_classes))


def per_class_accuracy(confusion: ArrayLike) -> Float64[np.ndarray, " classes"]:
    """(C,) float64: the share of each class's test items that were predicted right (recall).

    ``confusion``: (C, C) or (C, C + 1) counts as ``confusion_matrix`` returns them. NaN for
    classes without test items.
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[1] - counts.shape[0] not in (0, 1):
        raise ValueError(f"confusion has shape {counts.shape}; expected (C, C) or (C, C + 1).")
    if not (counts >= 0).all():
        raise ValueError("confusion contains negative counts.")
    return _shares(np.diagonal(counts), counts.sum(axis=1))


def _shares(right: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """right / totals, NaN for 0 / 0."""
    return np.divide(right, totals, out=np.full(len(totals), np.nan), where=totals > 0)


def confidence_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Mean and half width of its confidence interval over n independent runs (seeds).

    half width = t_{(1 + level)/2, n-1} * s / sqrt(n), with s the standard deviation (n - 1) and t
    the quantile of Student's distribution: exact for normally distributed values. None for n = 1.
    """
    from scipy.special import stdtrit

    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise ValueError(f"values must be a non-empty list of finite numbers, got {values!r}.")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, e.g. 0.95.")
    count, mean = len(sample), float(sample.mean())
    if count == 1:
        return mean, None
    quantile = stdtrit(count - 1, (1 + level) / 2)
    return mean, float(quantile * sample.std(ddof=1) / np.sqrt(count))


def _accuracy_matrix(matrix: ArrayLike) -> np.ndarray:
    accuracy = np.asarray(matrix, dtype=np.float64)
    if accuracy.ndim != 2 or not accuracy.size or len(accuracy) not in (1, accuracy.shape[1]):
        raise ValueError(
            f"accuracy matrix has shape {accuracy.shape}; expected (T, T), or (1, T) for joint "
            f"training, with T >= 1."
        )
    _check_fractions("accuracy matrix", accuracy)
    return accuracy


def _weights(num_test: ArrayLike | None, count: int) -> np.ndarray:
    if num_test is None:
        return np.ones(count)
    weights = np.asarray(num_test, dtype=np.float64)
    _check_vector("num_test", weights, count)
    if not (np.isfinite(weights) & (weights >= 1)).all():
        raise ValueError(f"num_test must be at least 1 for every test set, got {weights.tolist()}.")
    return weights


def _check_vector(name: str, vector: np.ndarray, length: int) -> None:
    if vector.shape != (length,):
        raise ValueError(
            f"{name} has shape {vector.shape}; expected ({length},), one per test set."
        )


def _check_fractions(name: str, array: np.ndarray) -> None:
    outside = array[~((array >= 0) & (array <= 1))]
    if outside.size:
        raise ValueError(f"{name} contains {outside[0]}; accuracies are fractions in [0, 1].")


def _check_range(name: str, ids: np.ndarray, low: int, stop: int) -> None:
    outside = ids[(ids < low) | (ids >= stop)]
    if len(outside):
        raise ValueError(f"{name} contain {outside[0]}, outside {low}..{stop - 1}.")


def _class_ids(name: str, values: ArrayLike) -> np.ndarray:
    ids = np.asarray(values)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} must be a vector of integers, got shape {ids.shape}, {ids.dtype}."
        )
    return ids.astype(np.int64)


def _mean_or_none(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
