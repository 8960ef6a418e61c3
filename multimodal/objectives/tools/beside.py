"""Texts or signals that stand beside each case and that no other case sees.

N cases, K such vectors each, of width D. There is no (N, N K) matrix of them: each case compares
only its own. Passes over the (N, K, D) vectors are what this costs, so their length and their
cosines are taken together, and the backward pass is written out: with x a vector, r = 1 / |x|,
u = r x, c = <a, u>, and g_u, g_c the gradients of u and c::

    d/dx = r (h - u <h, u>) with h = g_u + g_c a,        d/da = sum over a case's vectors of g_c u

First derivatives only.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from multimodal.objectives.tools.gather import Rows
from multimodal.objectives.tools.tiled import own_precision


class Beside:
    """Of the rows that take part: vectors (n, K, D) and which of them are there, (n, K) bool.

    x: (N, K, D) of all rows of this process; None: K is 0. allowed: (N, K) bool; None: all of x.
    like: (N, D) what they stand beside; theirs is the dtype. ValueError, with ``name``, if a shape
    does not fit.
    """

    def __init__(
        self,
        x: Float[Tensor, "..."] | None,
        allowed: Shaped[Tensor, "..."] | None,
        *,
        like: Float[Tensor, "batch dim"],
        rows: Rows,
        name: str,
    ) -> None:
        if x is None:
            if allowed is not None:
                raise ValueError(f"{name}: none, yet it is said which are there; give both.")
            x = like.new_zeros(len(like), 0, like.shape[1])
        if x.dim() != 3 or (len(x), x.shape[2]) != like.shape:
            raise ValueError(
                f"{name}: shape {tuple(x.shape)}; give K of each row of {tuple(like.shape)}, "
                "(N, K, D)."
            )
        if allowed is not None and (allowed.shape != x.shape[:2] or allowed.dtype != torch.bool):
            raise ValueError(
                f"allowed {name}: shape {tuple(allowed.shape)} of {allowed.dtype}; give a bool of "
                f"each vector of {tuple(x.shape)}."
            )
        self.x, self.some = rows.own(x).to(like.dtype), allowed is not None
        ones = torch.ones(self.x.shape[:2], dtype=torch.bool, device=x.device)
        self.there = ones if allowed is None else rows.own(allowed)

    def cosines(
        self, a: Float[Tensor, "own dim"]
    ) -> tuple[Float[Tensor, "own k dim"], Float[Tensor, "own k"]]:
        """The vectors, of length 1, and their inner products with unit rows a; zeros where none is
        there: what stands there is nothing, not even NaN.
        """
        if self.x.shape[1] == 0:
            return self.x, self.x.sum(2)
        with own_precision(a):
            return _Cosines.apply(self.x, a, self.there if self.some else None)

    def joined(
        self, first: Float[Tensor, " own"], logits: Float[Tensor, "own k"]
    ) -> Float[Tensor, " own"]:
        """Log-sum-exp of one number a row, never minus infinity, and the logits that are there."""
        logits = logits.masked_fill(~self.there, -torch.inf)
        return torch.cat([first[:, None], logits], 1).logsumexp(1)


class _Cosines(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor]:
        inverse = torch.linalg.vector_norm(x, dim=2).clamp_min(1e-8).reciprocal()
        unit = x * inverse[..., None]
        if there is not None:
            unit.masked_fill_(~there[..., None], 0.0)
            inverse.masked_fill_(~there, 0.0)
        cosines = torch.bmm(a[:, None], unit.transpose(1, 2))[:, 0]
        ctx.save_for_backward(unit, inverse, cosines, a)
        ctx.set_materialize_grads(False)
        return unit, cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        unit, inverse, cosines, a = ctx.saved_tensors
        of_unit, of_cosines = grads
        if of_cosines is None:
            of_cosines = torch.zeros_like(cosines)
        of_x = of_a = None
        with own_precision(a):
            if ctx.needs_input_grad[0]:
                along = of_cosines * cosines
                if of_unit is not None:
                    along = along + torch.linalg.vecdot(of_unit, unit)
                of_x = unit * (-along * inverse)[..., None]
                of_x.addcmul_((of_cosines * inverse)[..., None], a[:, None])
                if of_unit is not None:
                    of_x.addcmul_(of_unit, inverse[..., None])
            if ctx.needs_input_grad[1]:
                of_a = torch.bmm(of_cosines[:, None], unit)[:, 0]
        return of_x, of_a, None
