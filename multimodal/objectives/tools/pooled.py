"""Sums of softplus(s - p) over all of many scores s and positives p, without the list of pairs.

F(s) = sum_p softplus(s - p) is one smooth function of one number, without singularities nearer than
pi to the real line. Within an interval of length 1/2 its interpolant at n Chebyshev nodes is off by
some 25^-n of its own size: below rounding for n = 7 in float32 and 13 in float64, also where F is
tiny, for within an interval it changes by a factor of e at most. So the sum over S scores is that
over intervals of (powers of the scores' places) times (the interpolant's coefficients): a few
passes over S and n P numbers an interval, in place of S P. First derivatives only; they are those
of the interpolant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from multimodal.objectives.tools.blocks import exact_softplus
from multimodal.objectives.tools.recomputed import by_rows

MOST_FINE = 2**17  # places on either side of 0 for counting


@dataclass(frozen=True)
class Intervals:
    """Those of length 1/2 that hold all scores from -limit to limit; nodes: of each."""

    limit: int
    nodes: int

    @property
    def first(self) -> int:
        """Interval k is [(first + k) / 2, (first + k + 1) / 2)."""
        return -2 * self.limit - 1

    @property
    def count(self) -> int:
        return 1 - 2 * self.first


def intervals_of(limit: float, dtype: torch.dtype) -> Intervals:
    """limit: finite, no score or positive is farther from 0."""
    return Intervals(math.ceil(limit), 13 if dtype == torch.float64 else 7)


def moments(
    scores: Float[Tensor, "r c"], mask: Bool[Tensor, "r c"], of: Intervals
) -> Float[Tensor, "intervals nodes"]:
    """Float64: the sums, over the scores of each interval that ``mask`` names, of t^0, t^1, ...,
    with t in [-1, 1] their places in it.
    """
    return _Moments.apply(scores, mask, of)


class _Moments(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor, of: Intervals) -> Tensor:
        whole = (2 * scores).floor_()
        t = (4 * scores).sub_(whole, alpha=2).sub_(1)  # exact: factors are powers of 2
        place = whole.sub_(of.first).to(torch.int32).clamp_(0, of.count - 1)
        place = place.masked_fill_(~mask, of.count).flatten()  # what does not count is put aside
        sums = t.new_zeros(of.nodes, of.count + 1, dtype=torch.float64)
        wide = t.double().flatten()
        power = torch.ones_like(wide)
        for number in range(of.nodes):
            sums[number].index_add_(0, place, power)
            if number < of.nodes - 1:
                power *= wide
        ctx.save_for_backward(t, place)
        return sums[:, :-1].T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        t, place = ctx.saved_tensors
        order = torch.arange(grads[0].shape[1], device=t.device)
        slopes = torch.nn.functional.pad((4 * grads[0] * order).T, (0, 1)).to(t.dtype)
        found = slopes[-1].index_select(0, place).view_as(t)
        for row in slopes[1:-1].flip(0):
            found.mul_(t).add_(row.index_select(0, place).view_as(t))
        return found, None, None


def sum_of_softplus(
    moments: Float[Tensor, "intervals nodes"],
    positives: Float[Tensor, " positives"],
    of: Intervals,
    *,
    tile: int | None,
) -> Float[Tensor, ""]:
    """Sum over the scores of ``moments`` and all positives of softplus(score - positive), float64.

    tile: nodes that are compared with all positives at a time.
    """
    there = moments.detach()[:, 0].nonzero()[:, 0]
    angles = (torch.arange(of.nodes, dtype=torch.float64, device=moments.device) + 0.5) / of.nodes
    places = torch.cos(math.pi * angles)
    nodes = ((of.first + there[:, None] + 0.5) / 2 + places / 4).flatten()
    wide = positives.double()  # rounding of F would be multiplied in its slope

    def block(r: slice) -> Tensor:
        return exact_softplus(nodes[r, None] - wide).sum(1)

    if not len(nodes):
        return moments.sum() + 0.0 * positives.sum()
    values = by_rows(block, len(nodes), tile).view(-1, of.nodes)
    powers = places[:, None] ** torch.arange(of.nodes, device=places.device)
    coefficients = torch.linalg.solve(powers, values.T).T
    return (moments[there] * coefficients).sum()


@torch.no_grad()
def number_above(
    scores: Float[Tensor, "r c"],
    mask: Bool[Tensor, "r c"],
    positives: Float[Tensor, " positives"],
    of: Intervals,
) -> Float[Tensor, ""]:
    """Float64, exact: the pairs of a score that ``mask`` names and a positive above it.

    Scores are put in places so fine that most have no positive in theirs: it is known without a
    search how many are above.
    """
    fine = 2.0 ** math.floor(math.log2(MOST_FINE / max(of.limit, 1)))
    half = math.ceil(of.limit * fine) + 1

    def place_of(x: Tensor) -> Tensor:
        return (x * fine).floor_().add_(half).to(torch.int32).clamp_(0, 2 * half)

    place = place_of(scores).masked_fill_(~mask, 2 * half + 1).flatten()
    held = torch.bincount(place_of(positives), minlength=2 * half + 2)
    above = (len(positives) - held.cumsum(0)).masked_fill(held > 0, 0)
    above[-1] = 0
    known = (torch.bincount(place, minlength=len(above)) * above).sum()
    contested = held > 0
    contested[-1] = False
    left = scores.flatten()[contested.index_select(0, place)]
    found = len(positives) - torch.searchsorted(positives.sort().values, left, right=True)
    return (known + found.sum()).double()
