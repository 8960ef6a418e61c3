"""The Gaussian kernel between all pairs of unit rows: whole, in tiles, or of all processes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from multimodal.objectives.tools.gather import Rows, same_ids
from multimodal.objectives.tools.tiled import Targets, choose

RATE = 2.0  # t of e^(-t d^2), Wang and Isola 2020


def log_mean_kernel(
    x: Float[Tensor, "batch dim"],
    y: Float[Tensor, "batch dim"],
    rows: Rows,
    *,
    ids: Int[Tensor, "..."] | None = None,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """``log mean_{i != j} exp(-2 ||x_i - y_j||^2)``, in [-8, 0]; 0 if there is no such pair.

    x, y: (N, D) unit rows, of which those of ``rows`` count; x twice: the uniformity of x. A row of
    zeros is taken to be at a squared distance of 2 from all others, its cosine being 0. ids: (N,)
    integers; pairs of equal id are left out. rows.gather: every process has the value of the whole
    batch, and the mean of the processes' gradients is its gradient.
    """
    mine = rows.own(torch.arange(len(x), device=x.device))
    everyone = rows.everyone(y)
    excluded, equal = None, rows.count
    if ids is not None:
        excluded = same_ids(ids, x, rows, name="ids", own=False)
        equal = int(rows.everyone(ids, grad=False).unique(return_counts=True)[1].square().sum())
    pairs = rows.count**2 - equal
    if pairs == 0:
        return (x.sum() + y.sum()) * 0.0
    # ||x - y||^2 is 2 - 2 <x, y>; so a row's sum is that of exp of inner products.
    left = 2 * RATE * rows.own(x)
    targets = Targets(rows.first, excluded=excluded, decoupled=True)
    (choice,) = choose(left, everyone, (targets,), tile=tile)
    own = choice.losses + (left * rows.own(y)).sum(1)
    # Absent rows are as those without candidates: exp of it is 0.
    lowest = x.new_full((len(x),), torch.finfo(x.dtype).min)
    sums = rows.everyone(lowest.index_copy(0, mine, own))
    return sums.logsumexp(0) - 2 * RATE - math.log(pairs)
