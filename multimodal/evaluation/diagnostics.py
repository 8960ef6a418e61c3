"""How signals and their texts lie on the unit sphere: alignment, uniformity, gap, rank.

All embeddings are scaled to length 1 first. Papers: alignment and uniformity, Wang and Isola,
arXiv:2005.10242; tolerance, Wang and Liu, arXiv:2012.09740; modality gap, Liang et al.,
arXiv:2203.02053, and Fahim et al., arXiv:2405.18570; effective rank, Roy and Vetterli, EUSIPCO
2007. The figures of the last two come from public notes on them, so ours are reconstructions.

Means over pairs are over DISTINCT pairs. The papers print 1/N or keep the pairs of an item with
itself; that shifts values by a constant or by O(1/N), so logged values would not compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multimodal.errors import UserError
from multimodal.evaluation.embeddings import Embeddings, Labels, unit_rows

TEMPERATURE = 2.0  # t of e^(-t d^2), as in the papers
BLOCK = 2048
_TEST_EVERY = 5  # 80 % train the classifier of linear_separability, every fifth pair tests it


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """metrics: ``alignment``, ``cross_uniformity``, ``centroid_distance``, ``linear_separability``;
    with the prefixes signal_ and text_ ``uniformity``, ``effective_rank`` and ``pca_dimension``;
    with labels also signal_tolerance and signal_tolerance_same_class.
    """

    metrics: dict[str, float]


def diagnose(
    signals: Embeddings,
    texts: Embeddings,
    *,
    labels: Labels | None = None,
    recordings: Sequence[str] | None = None,
) -> Diagnostics:
    """All of them for N pairs. signals, texts: (N, D). labels: (N,) class ids of the signals.

    recordings: N names for errors. Time O(N^2 D): above some 50,000 pairs give a part of them.
    UserError: embeddings with NaN (all named at once), sides that do not fit, fewer than 5 pairs.
    """
    x, y = _pairs(signals, texts, recordings)
    metrics = {
        "alignment": alignment(x, y),
        "cross_uniformity": cross_uniformity(x, y),
        "centroid_distance": centroid_distance(x, y),
        "linear_separability": linear_separability(x, y),
    }
    for side, rows in (("signal", x), ("text", y)):
        metrics[f"{side}_uniformity"] = uniformity(rows)
        metrics[f"{side}_effective_rank"] = effective_rank(rows)
        metrics[f"{side}_pca_dimension"] = pca_dimension(rows)
    if labels is not None:
        whole, same_class = tolerance(x, labels)
        metrics["signal_tolerance"] = whole
        if same_class is not None:
            metrics["signal_tolerance_same_class"] = same_class
    return Diagnostics(metrics)


def diagnose_classes(
    signals: Embeddings,
    labels: Labels,
    classes: Embeddings,
    *,
    recordings: Sequence[str] | None = None,
) -> Diagnostics:
    """The same where recordings have classes instead of texts of their own, without what needs
    distinct pairs: no ``cross_uniformity``, ``linear_separability`` and ``text_pca_dimension``.

    signals: (N, D). labels: (N,) positions in classes, (C, D), the text of each class once; the gap
    is from the mean signal to the mean of the classes' texts. UserError as ``diagnose``.
    """
    x, texts = unit_rows(signals, recordings), unit_rows(classes, of="text")
    whole, same_class = tolerance(x, labels)
    own = texts[torch.as_tensor(np.asarray(labels), dtype=torch.int64)]
    metrics = {
        "alignment": alignment(x, own),
        "centroid_distance": centroid_distance(x, texts),
        "signal_uniformity": uniformity(x),
        "signal_effective_rank": effective_rank(x),
        "signal_pca_dimension": pca_dimension(x),
        "text_uniformity": uniformity(texts),
        "text_effective_rank": effective_rank(texts),
        "signal_tolerance": whole,
    }
    return Diagnostics(
        metrics if same_class is None else {**metrics, "signal_tolerance_same_class": same_class}
    )


def alignment(x: Embeddings, y: Embeddings) -> float:
    """mean_i ||x_i - y_i||^2 of N pairs, in [0, 4]; 0: every pair coincides. x, y: (N, D)."""
    first, second = _pairs(x, y)
    return float((first - second).square().sum(dim=1).mean())


def uniformity(x: Embeddings) -> float:
    """log of the mean over pairs i != j of e^(-2 ||x_i - x_j||^2), in [-8, 0]; x: (N, D), N >= 2.

    0: all in one point. -4 + log 0F1(; D/2; 4), close to -4 + 8/D: uniform on the sphere.
    """
    rows = unit_rows(x)
    return _log_mean_kernel(rows, rows)


def cross_uniformity(x: Embeddings, y: Embeddings) -> float:
    """log of the mean over pairs i != j of e^(-2 ||x_i - y_j||^2), in [-8, 0]; x, y: (N, D)."""
    return _log_mean_kernel(*_pairs(x, y))


def tolerance(x: Embeddings, labels: Labels) -> tuple[float, float | None]:
    """Mean over pairs i != j of x_i . x_j where the labels are equal and 0 elsewhere, in [-1, 1];
    and the mean over the pairs of equal labels alone, which does not depend on class frequencies
    (None if there is no such pair). x: (N, D), N >= 2; labels: (N,) class ids.
    """
    rows = unit_rows(x)
    _refuse_few(rows, 2)
    classes = np.asarray(labels)
    if classes.shape != (len(rows),):
        raise UserError(
            f"labels have shape {classes.shape}; expected {len(rows)}, one a recording."
        )
    place = torch.from_numpy(np.unique(classes, return_inverse=True)[1])
    number = torch.bincount(place)
    sums = torch.zeros(len(number), rows.shape[1], dtype=torch.float64).index_add_(0, place, rows)
    # |sum of a class|^2 holds each pair of it twice, and each item with itself once.
    agreement = float(sums.square().sum() - rows.square().sum())
    pairs = int((number * (number - 1)).sum())
    count = len(rows) * (len(rows) - 1)
    return agreement / count, agreement / pairs if pairs else None


def centroid_distance(x: Embeddings, y: Embeddings) -> float:
    """||mean x - mean y||, in [0, 2]: the modality gap. x, y: (N, D), (M, D)."""
    return float((unit_rows(x).mean(dim=0) - unit_rows(y).mean(dim=0)).norm())


def centroid_angle(x: Embeddings, y: Embeddings) -> float:
    """Degrees between mean x and mean y, in [0, 180]; NaN if a mean is 0. x, y: (N, D), (M, D)."""
    first, second = unit_rows(x).mean(dim=0), unit_rows(y).mean(dim=0)
    lengths = first.norm(), second.norm()
    if not all(lengths):
        return math.nan
    one, two = first / lengths[0], second / lengths[1]
    # The arc cosine would round small angles to 0.
    return 2 * math.degrees(math.atan2(float((one - two).norm()), float((one + two).norm())))


def linear_separability(x: Embeddings, y: Embeddings) -> float:
    """Test accuracy of a logistic regression that tells x from y: 0.5 no gap, 1 disjoint.

    x, y: (N, D) pairs, N >= 5. Every fifth pair is a test pair, so no random number is drawn and
    both sides of a pair stand on one side of the split. As the papers' notes say 80 to 20.
    """
    from sklearn.linear_model import LogisticRegression

    first, second = (side.numpy() for side in _pairs(x, y))
    _refuse_few(first, _TEST_EVERY)
    tested = np.arange(len(first)) % _TEST_EVERY == _TEST_EVERY - 1
    train = np.concatenate([first[~tested], second[~tested]])
    test = np.concatenate([first[tested], second[tested]])
    # Weak regularisation: the question is whether a plane exists, however narrow the gap.
    model = LogisticRegression(C=1e3, max_iter=2_000)
    model.fit(train, np.repeat([0, 1], len(train) // 2))
    return float(model.score(test, np.repeat([0, 1], len(test) // 2)))


def effective_rank(x: Embeddings, *, centre: bool = True) -> float:
    """exp of the entropy of p, p = singular values over their sum; in [1, min(N, D)]. x: (N, D).

    centre: of x minus its mean, so that a direction common to all (the cone of a modality) does not
    hide the rest; False is the paper's and RankMe's (arXiv:2210.02885). All in one point: 1.
    """
    values = _singular_values(x, centre=centre)
    shares = values / values.sum() if values.sum() > 0 else torch.ones(1, dtype=torch.float64)
    return math.exp(float(torch.special.entr(shares).sum()))


def pca_dimension(x: Embeddings, share: float = 0.8) -> int:
    """The fewest principal components that hold ``share``, in (0, 1], of the variance; from 0 (all
    in one point) to min(N, D). x: (N, D).
    """
    if not 0 < share <= 1:
        raise UserError(f"share is {share}; it must lie between 0 and 1, such as 0.8.")
    variances = _singular_values(x, centre=True).square()
    if not variances.sum() > 0:
        return 0
    held = variances.cumsum(dim=0) / variances.sum()
    return int((held < share * (1 - 1e-12)).sum()) + 1


def _singular_values(x: Embeddings, *, centre: bool) -> Tensor:
    """Descending, float64; those that are rounding errors of zero are zero."""
    rows = unit_rows(x)
    values = torch.linalg.svdvals(rows - rows.mean(dim=0) if centre else rows)
    noise = max(rows.shape) * torch.finfo(torch.float64).eps * math.sqrt(len(rows))
    return torch.where(values > noise, values, 0)


def _log_mean_kernel(x: Tensor, y: Tensor) -> float:
    """log mean_{i != j} e^(-2 ||x_i - y_j||^2) of (N, D) rows, in blocks."""
    _refuse_few(x, 2)
    logs = []
    for first in range(0, len(x), BLOCK):
        for start in range(0, len(y), BLOCK):
            left, right = x[first : first + BLOCK], y[start : start + BLOCK]
            squared = left.square().sum(1)[:, None] + right.square().sum(1) - 2 * left @ right.T
            exponents = -TEMPERATURE * squared.clamp(min=0)
            if first == start:
                exponents.fill_diagonal_(-torch.inf)
            logs.append(exponents.flatten().logsumexp(dim=0))
    return float(torch.stack(logs).logsumexp(dim=0)) - math.log(len(x) * (len(x) - 1))


def _pairs(
    x: Embeddings, y: Embeddings, recordings: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    first, second = unit_rows(x, recordings), unit_rows(y, recordings, of="text")
    if first.shape != second.shape:
        raise UserError(
            f"signals have shape {tuple(first.shape)} and texts {tuple(second.shape)}; these "
            "diagnostics need pairs of one width."
        )
    return first, second


def _refuse_few(rows: Tensor | np.ndarray, fewest: int) -> None:
    if len(rows) < fewest:
        raise UserError(f"{len(rows)} embeddings are too few; this needs at least {fewest}.")
