"""Objectives of MVP (Moon et al., ICCV 2023, Si-Blurry), as pure functions.

A reconstruction from a description of the authors' code. Legend: N recordings, D width of the
features, C classes, P entries of the prompt pool. d(a, b) = 1 - cos(a, b).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

EPSILON = 1e-6


def key_distances(queries: Tensor, keys: Tensor) -> Tensor:
    """(N, P) d(q_i, k_j) in [0, 2]. queries: (N, D). keys: (P, D)."""
    return 1 - normalize(queries, dim=1) @ normalize(keys, dim=1).T


def cvpt_loss(
    queries: Tensor,
    keys: Tensor,
    selected: Tensor,
    counts: Tensor,
    *,
    mode: Literal["per_sample", "released_broadcast"] = "per_sample",
) -> Tensor:
    """Contrastive visual prompt tuning: the chosen key to its query, away from all other keys.

        S_kk = mean_ij exp(d(k_{s_i}, k_j) / (c_{s_i} + 1)),  j over all keys, s_i included
        S_qk = mean_i  exp(d(q_i, k_{s_i}) / (c_{s_i} + 1))
        L    = -log(S_kk / (S_qk + S_kk) + 1e-6)

    queries: (N, D), without gradient. keys: (P, D). selected: (N,) s_i. counts: (P,) c, how often
    each entry was chosen before. ln 2 as counts grow, where keys have no gradient any more.

    released_broadcast: the released code divides every distance by every recording's count (its
    tensors broadcast to (N, N, P) and (N, N)) before the means; the same where counts are equal.
    """
    own, use = keys[selected], counts[selected].to(keys.dtype) + 1
    among = key_distances(own, keys)
    to_query = 1 - cosine_similarity(queries, own, dim=1)
    if mode == "per_sample":
        s_kk = (among / use[:, None]).exp().mean()
        s_qk = (to_query / use).exp().mean()
    else:
        s_kk = (among[None] / use[:, None, None]).exp().mean()
        s_qk = (to_query[None] / use[:, None]).exp().mean()
    return -(s_kk / (s_qk + s_kk) + EPSILON).log()


@torch.no_grad()
def gradient_similarity(
    features: Tensor,
    logits: Tensor,
    labels: Tensor,
    factor: Tensor,
    *,
    exposed: Tensor | None = None,
) -> Tensor:
    """(N,) S = 1 - cos(g_i, G_y) in [0, 2]: 0 redundant, 2 opposed to its class's mean gradient.

    g_i is the gradient of recording i's cross-entropy by row y_i of the head, G_y that row of the
    gradient of the batch mean. In closed form, without a backward pass a recording: with F the
    features (N, D), P = softmax(logits), Y one-hot and M the mask factors (N, C), in float32,

        R = (P - Y) * M,   G = R^T F / N,   g_i = R_{i,y_i} f_i with R_{i,y_i} < 0,
        hence S_i = 1 + cos(f_i, G_{y_i})

    logits: (N, C) of unscaled features, mask applied, -inf where not exposed. labels: (N,) int64.
    Where P_{y_i} rounds to 1 the gradient is 0 and S_i = 1, as automatic differentiation has it.

    Multi-label: labels (N, C) targets, NaN unknown, exposed (C,): P = sigmoid(logits), cells that
    are unknown or not exposed have no gradient, S_i is the mean over the positive labels of i, 1
    without any (a decision of ours).
    """
    f, m = features.float(), factor.float()
    if labels.dim() == 1:
        place = torch.arange(len(labels), device=labels.device)
        residual = logits.float().softmax(1)
        residual[place, labels] -= 1
        # Column i is that of class y_i; the 1 / N of a mean is no part of a direction.
        columns = (residual * m)[:, labels]
        cosine = cosine_similarity(f, columns.T @ f, dim=1)
        return torch.where(columns[place, place] < 0, 1 + cosine, 1.0)
    counts = ~labels.isnan() if exposed is None else ~labels.isnan() & exposed
    targets = labels.nan_to_num(0.0).float()
    residual = torch.where(counts, logits.float().sigmoid() - targets, 0.0) * m
    own = counts & (labels == 1)
    cosines = normalize(f, dim=1) @ normalize(residual.T @ f, dim=1).T
    similarity = torch.where(residual < 0, 1 + cosines, 1.0)
    number = own.sum(1)
    average = torch.where(own, similarity, 0.0).sum(1) / number.clamp(min=1)
    return torch.where(number > 0, average, 1.0)


def gsf_loss(
    losses: Tensor,
    similarity: Tensor,
    *,
    alpha: float = 0.5,
    gamma: float = 2.0,
    mode: Literal["per_sample", "released_scalar"] = "per_sample",
) -> Tensor:
    """Gradient-similarity focal loss, mean_i [(1 - alpha) CE_i + alpha S_i^gamma CE_i].

    losses: (N,) cross-entropies. similarity: (N,) S in [0, 2], without gradient.

    released_scalar: the released code takes the mean of CE before it weights, so its loss is
    mean(CE) [(1 - alpha) + alpha mean(S^gamma)], a rescaling of the whole batch.
    """
    focus = (1 - alpha) + alpha * similarity.to(losses.dtype).pow(gamma)
    if mode == "released_scalar":
        return losses.mean() * focus.mean()
    return (losses * focus).mean()


@torch.no_grad()
def feature_scale(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.5,
    exposed: Tensor | None = None,
) -> Tensor:
    """(N,) S_cps = 1 - cos(W_y, f) + margin, by which training features are divided.

    A temperature a recording, in [margin, 2 + margin]: well-fitted ones get a peaked softmax and
    little gradient. features: (N, D). weight: (C, D) of the head. labels: (N,), or (N, C) targets:
    the largest over the positive labels that are exposed (the worst aligned one), 1 without any.
    """
    if labels.dim() == 1:
        return 1 - cosine_similarity(weight[labels], features, dim=1) + margin
    own = labels == 1 if exposed is None else (labels == 1) & exposed
    distance = key_distances(features, weight).masked_fill(~own, float("-inf")).amax(1)
    return torch.where(own.any(1), distance + margin, 1.0)
