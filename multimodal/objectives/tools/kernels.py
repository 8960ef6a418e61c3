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
    sums = choice.losses + (left * rows.own(y)).sum(1)
    return pooled(sums, rows, len(x)) - 2 * RATE - math.log(pairs)


def log_sums(
    x: Float[Tensor, "batch dim"],
    rows: Rows,
    *,
    temperature: float,
    itself: bool,
    tile: int | None = None,
) -> Float[Tensor, " own"]:
    """Of each own row i that takes part ``log sum_j exp(-||x_i - x_j||^2 / (2 temperature))``, j
    over the rows of all processes; i itself among them or not, then the lowest number if it is
    alone. x: (N, D) of any length.
    """
    half = x.square().sum(1, keepdim=True) / 2
    one = torch.ones_like(half)
    # -||x - y||^2 / 2 is an inner product of rows that are two numbers longer.
    left = rows.own(torch.cat([x, one, -half], 1)) / temperature
    right = torch.cat([x, -half, one], 1)
    targets = Targets(rows.first, decoupled=not itself)
    (choice,) = choose(left, rows.everyone(right), (targets,), tile=tile)
    return choice.losses + (left * rows.own(right)).sum(1)


def pooled(sums: Float[Tensor, " own"], rows: Rows, count: int) -> Float[Tensor, ""]:
    """The logarithm of the sum of e^sums over the rows of all processes; count: rows of this one,
    N. It is the same in every process, and the mean of their gradients is its own.
    """
    mine = rows.own(torch.arange(count, device=sums.device))
    # Absent rows are as those without candidates: exp of it is 0.
    lowest = sums.new_full((count,), torch.finfo(sums.dtype).min)
    return rows.everyone(lowest.index_copy(0, mine, sums)).logsumexp(0)
