"""Objectives of MVP (Moon et al., ICCV 2023, Si-Blurry), as pure functions.

A reconstruction from a description of the authors' code; the paper's text was not available, so
its equations are named by what they compute, not by number. Where we deviate from the release:

- ``cvpt_loss`` divides a distance by its own recording's count, the release by everybody's;
- ``gsf_loss`` weights each recording's loss, the release rescales the mean of the batch;
- ``gradient_similarity`` is a closed form, the release runs a backward pass a recording;
- multi-label data, which the release does not have (decisions of ours).

``mode="released_..."`` gives the release's values. Legend: N recordings, D width of the features, C
classes, P entries of the prompt pool. d(a, b) = 1 - cos(a, b); with a row of zeros, 1. Any float
type; computed in float32 (float64 stays, but for ``gradient_similarity``), also under autocast.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.objectives.tools.gather import unit

EPSILON = 1e-6
CvptMode = Literal["per_sample", "released_broadcast"]
GsfMode = Literal["per_sample", "released_scalar"]


def key_distances(
    queries: Float[Tensor, "batch dim"], keys: Float[Tensor, "pool dim"]
) -> Float[Tensor, "batch pool"]:
    """(N, P) d(q_i, k_j) in [0, 2] up to rounding. queries: (N, D). keys: (P, D)."""
    a, b = unit(queries, "queries"), unit(keys, "keys")
    dtype = torch.promote_types(a.dtype, b.dtype)
    with torch.autocast(queries.device.type, enabled=False):
        return 1 - a.to(dtype) @ b.to(dtype).T


def cvpt_loss(
    queries: Float[Tensor, "batch dim"],
    keys: Float[Tensor, "pool dim"],
    selected: Int[Tensor, " batch"],
    counts: Num[Tensor, " pool"],
    *,
    mode: CvptMode = "per_sample",
) -> Float[Tensor, ""]:
    """Contrastive visual prompt tuning: the chosen key to its query, away from all other keys.

        S_kk = mean_ij exp(d(k_{s_i}, k_j) / (c_{s_i} + 1)),  j over all keys, s_i included
        S_qk = mean_i  exp(d(q_i, k_{s_i}) / (c_{s_i} + 1))
        L    = -log(S_kk / (S_qk + S_kk) + 1e-6)

    queries: (N, D), without gradient. keys: (P, D). selected: (N,) int64, s_i. counts: (P,) >= 0,
    c, how often each entry was chosen before this batch. Scalar in (0.1, 2.2); ln 2 as counts grow,
    where keys have no gradient any more: it falls as 1 / count.

    released_broadcast: the released code divides every distance by every recording's count (its
    tensors broadcast to (N, N, P) and (N, N)) before the means; the same where counts are equal.
    ValueError if mode is neither.
    """
    _check_mode(mode, get_args(CvptMode))
    own = keys[selected]
    among, to_query = key_distances(own, keys), 1 - _cosine(queries, own)
    use = counts[selected].to(among.dtype) + 1
    if mode == "per_sample":
        s_kk = (among / use[:, None]).exp().mean()
        s_qk = (to_query / use).exp().mean()
    else:
        s_kk = (among[None] / use[:, None, None]).exp().mean()
        s_qk = (to_query[None] / use[:, None]).exp().mean()
    return -(s_kk / (s_qk + s_kk) + EPSILON).log()


@torch.no_grad()
def gradient_similarity(
    features: Float[Tensor, "batch dim"],
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    factor: Float[Tensor, "batch classes"],
    *,
    exposed: Bool[Tensor, " classes"] | None = None,
) -> Float[Tensor, " batch"]:
    """(N,) S = 1 - cos(g_i, G_y) in [0, 2]: 0 redundant, 2 opposed to its class's mean gradient.

    g_i is the gradient of recording i's cross-entropy by row y_i of the head, G_y that row of the
    gradient of the batch mean. In closed form, without a backward pass a recording: with F the
    features (N, D), P = softmax(logits), Y one-hot and M the mask factors (N, C), in float32,

        R = (P - Y) * M,   G = R^T F / N,   g_i = R_{i,y_i} f_i with R_{i,y_i} < 0,
        hence S_i = 1 + cos(f_i, G_{y_i})

    features: (N, D), unscaled. logits: (N, C) of them, mask applied, -inf where not exposed.
    labels: (N,) int64, exposed. factor: (N, C), 2 sigmoid(mask), >= 0. Where P_{y_i} rounds to 1 or
    the factor to 0, or where G_{y_i} is 0, S_i is 1, as automatic differentiation has it: there
    g_i = 0 and cos is 0.

    Multi-label: labels (N, C) targets, NaN unknown, exposed (C,) bool (None: all): P =
    sigmoid(logits), cells that are unknown or not exposed have no gradient. S_i is the mean over
    the positive (target 1) exposed labels of i, 1 without any (a decision of ours).
    """
    f, z, m = features.float(), logits.float(), factor.float()
    with torch.autocast(f.device.type, enabled=False):
        if labels.dim() == 1:
            return _similarity_of_label(f, z, labels, m)
        return _similarity_of_labels(f, z, labels, m, exposed)


def gsf_loss(
    ce: Float[Tensor, " batch"],
    similarity: Float[Tensor, " batch"],
    *,
    alpha: float = 0.5,
    gamma: float = 2.0,
    mode: GsfMode = "per_sample",
) -> Float[Tensor, ""]:
    """Gradient-similarity focal loss, mean_i [(1 - alpha) CE_i + alpha S_i^gamma CE_i].

    ce: (N,) losses of the recordings. similarity: (N,) S in [0, 2], without gradient. alpha in
    [0, 1], gamma >= 0. Scalar; a recording weighs from 1 - alpha to 1 - alpha + alpha 2^gamma.

    released_scalar: the released code takes the mean of CE before it weights, so its loss is
    mean(CE) [(1 - alpha) + alpha mean(S^gamma)], a rescaling of the whole batch. The same where S
    is equal. ValueError if mode is neither.
    """
    _check_mode(mode, get_args(GsfMode))
    focus = (1 - alpha) + alpha * similarity.to(ce.dtype).pow(gamma)
    if mode == "released_scalar":
        return ce.mean() * focus.mean()
    return (ce * focus).mean()


@torch.no_grad()
def feature_scale(
    features: Float[Tensor, "batch dim"],
    weight: Float[Tensor, "classes dim"],
    labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    *,
    margin: float = 0.5,
    exposed: Bool[Tensor, " classes"] | None = None,
) -> Float[Tensor, " batch"]:
    """(N,) S_cps = 1 - cos(W_y, f) + margin, by which training features are divided.

    A temperature a recording, in [margin, 2 + margin]: well-fitted ones get a peaked softmax and
    little gradient. Without gradient, as released. features: (N, D). weight: (C, D) of the head.
    labels: (N,) int64, or (N, C) targets, NaN unknown: the largest over the positive (target 1)
    labels that are exposed (the worst aligned one), 1 without any (a decision of ours). exposed:
    (C,) bool, of multi-label data; None: all.
    """
    if labels.dim() == 1:
        return 1 - _cosine(features, weight[labels]) + margin
    own = _positive(labels, exposed)
    distance = key_distances(features, weight).clamp(0, 2).masked_fill(~own, float("-inf"))
    return torch.where(own.any(1), distance.amax(1) + margin, 1.0)


def _similarity_of_label(f: Tensor, logits: Tensor, labels: Tensor, m: Tensor) -> Tensor:
    place = torch.arange(len(labels), device=labels.device)
    residual = logits.softmax(1)
    residual[place, labels] -= 1
    # Column i is that of class y_i; the 1 / N of a mean is no part of a direction.
    columns = (residual * m)[:, labels]
    cosines = (normalize(f, dim=1) * normalize(columns.T @ f, dim=1)).sum(1)
    return _similarity(cosines, columns[place, place])


def _similarity_of_labels(
    f: Tensor, logits: Tensor, labels: Tensor, m: Tensor, exposed: Tensor | None
) -> Tensor:
    counts = ~labels.isnan() if exposed is None else ~labels.isnan() & exposed
    residual = torch.where(counts, logits.sigmoid() - labels.float(), 0.0) * m
    cosines = normalize(f, dim=1) @ normalize(residual.T @ f, dim=1).T
    own = _positive(labels, exposed)
    number = own.sum(1)
    total = torch.where(own, _similarity(cosines, residual), 0.0).sum(1)
    return torch.where(number > 0, total / number.clamp(min=1), 1.0)


def _similarity(cosines: Tensor, residual: Tensor) -> Tensor:
    """1 + cos, 1 where there is no gradient. At least 0 though cos rounds to less than -1: a
    negative S has no fractional power.
    """
    return torch.where(residual < 0, (1 + cosines).clamp(0, 2), 1.0)


def _positive(targets: Tensor, exposed: Tensor | None) -> Tensor:
    """(N, C) bool: labels that a recording has, among the exposed classes."""
    return targets == 1 if exposed is None else (targets == 1) & exposed


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """(N,) of paired rows, in [-1, 1]."""
    return (unit(a, "features") * unit(b, "keys")).sum(1).clamp(-1, 1)


def _check_mode(mode: str, valid: tuple[str, ...]) -> None:
    if mode not in valid:
        raise ValueError(f"mode: {mode!r}; choose one of {', '.join(valid)}.")
