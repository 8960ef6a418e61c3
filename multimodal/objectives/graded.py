"""Losses of graded similarity: how alike the two sides of a pair are, said by a number.

CoDiEmb, 2025, arXiv:2508.11442; equations of its authors' code. Of n pairs, x_i the predicted
cosine and y_i what it should follow (an opinion score, a severity that two readers agree on), tau
the temperature::

    Pearson = 1 - corr(x, y)
    RankKL  = KL( softmax(t / tau) || softmax(x / tau) ),  t = (n - 1 - r) / (n - 1),
              r the average rank of y, 0 the highest
    PRO     = mean over the k that have pairs below them (y_j < y_k) of
              -log softmax([D_k x_k / tau, D_j x_j / tau ...])_first,  D_j = y_k - y_j,
              D_k = max_j D_j

The published total is 2 Pearson + 5 RankKL + 0.5 PRO, with InfoNCE beside; its 5 mends a division
of RankKL by n, which is not here. We deviate: constant predictions have a correlation of 0 (there
NaN), as constant y have, whose loss is 0 for they say nothing. No recording of ours carries such a
grade yet, so these are functions and no objectives by name.

Common to all: predicted, gold: (N,), of any float type, computed in float32 (float64 stays).
present: (N,) bool, pairs that take part; None: all. gather: the batch is that of all processes, of
which each then has the whole value. 0 where nothing is to be compared. ValueError: shapes that do
not fit, a temperature that is not above 0.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.tools.gather import Rows


def pearson(
    predicted: Float[Tensor, "..."],
    gold: Shaped[Tensor, "..."],
    *,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """``1 - corr(predicted, gold)``, in [0, 2]; 0 where predicted rises linearly with gold.

    terms: correlation.
    """
    x, y = _given(predicted, gold, present, gather)
    if len(x) < 2 or (y == y[0]).all():
        return Loss(x.sum() * 0.0, {})
    x, y = x - x.mean(), y - y.mean()
    tiny = torch.finfo(x.dtype).tiny ** 0.5
    sizes = torch.linalg.vector_norm(x).clamp_min(tiny) * torch.linalg.vector_norm(y)
    correlation = (x * y).sum() / sizes
    return Loss(1 - correlation, {"correlation": correlation.detach()})


def rank_kl(
    predicted: Float[Tensor, "..."],
    gold: Shaped[Tensor, "..."],
    *,
    temperature: float = 0.05,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """``KL(softmax(t / tau) || softmax(predicted / tau))``, at least 0, in nats: 0 where predicted
    is the rank score t plus a constant. t: 1 for the highest gold, 0 for the lowest; equal ones
    share their mean. O(N log N). terms: target_entropy.
    """
    _check(temperature)
    x, y = _given(predicted, gold, present, gather)
    if len(x) < 2:
        return Loss(x.sum() * 0.0, {})
    _, place, counts = y.unique(return_inverse=True, return_counts=True)
    counts = counts.to(x.dtype)
    below = counts.cumsum(0) - counts
    score = (below + (counts - 1) / 2)[place] / (len(y) - 1)  # n - 1 - r, counted from below
    target = (score / temperature).log_softmax(0)
    log_p = (x / temperature).log_softmax(0)
    value = (target.exp() * (target - log_p)).sum()
    return Loss(value, {"target_entropy": -(target.exp() * target).sum()})


def pro(
    predicted: Float[Tensor, "..."],
    gold: Shaped[Tensor, "..."],
    *,
    temperature: float = 0.05,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """Preference ranking (module docstring), in nats; of two pairs softplus(-D (x_1 - x_2) / tau),
    D = y_1 - y_2 > 0. (N, N) scalars are held and no tiles: a batch of numbers is small beside one
    of embeddings. terms: compared (pairs with others below them).
    """
    _check(temperature)
    x, y = _given(predicted, gold, present, gather)
    above = y[:, None] - y  # D_j of row k
    lower = above > 0
    compared = lower.any(1)
    terms = {"compared": compared.sum().to(x.dtype)}
    if not compared.any():
        return Loss(x.sum() * 0.0, terms)
    above, lower, first = above[compared], lower[compared], x[compared]
    own = above.amax(1) * first / temperature
    others = (above * x / temperature).masked_fill(~lower, -torch.inf)
    losses = torch.cat([own[:, None], others], 1).logsumexp(1) - own
    return Loss(losses.mean(), terms)


def _given(
    predicted: Tensor, gold: Tensor, present: Tensor | None, gather: bool
) -> tuple[Tensor, Tensor]:
    """Of all pairs that take part, the predictions and, without gradient, what they should follow;
    both in the wider of float32 and the predictions' type.
    """
    if predicted.dim() != 1 or predicted.shape != gold.shape:
        raise ValueError(
            f"predicted: shape {tuple(predicted.shape)}, gold: shape {tuple(gold.shape)}; give the "
            "cosines and the grades of N pairs, both (N,)."
        )
    rows = Rows(predicted, present, gather=gather)
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    x, y = rows.clean(predicted).to(dtype), rows.clean(gold.detach()).to(dtype)
    return rows.everyone(x), rows.everyone(y, grad=False)


def _check(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: {temperature}; give a number above 0.")
