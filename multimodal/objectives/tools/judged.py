"""Pairs that are judged alone, each as a match or not: whole or tile by tile (``tiled.py``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from multimodal.objectives.tools.blocks import exact_softplus
from multimodal.objectives.tools.tiled import (
    Block,
    Products,
    check_tile,
    own_pairs,
    own_precision,
    refuse_second_derivatives,
    tiles,
)


def judge(
    rows: Tensor, columns: Tensor, bias: Tensor, first: int, same: Block | None, tile: int | None
) -> Tensor:
    """(R,) sums over the columns of -log sigmoid(z x), with x = rows @ columns.T + bias (scalar).

    z is 1 for the own pair (row i, column first + i), or where the block ``same`` is True; else -1.
    """
    check_tile(tile)
    with own_precision(rows):
        if tile is None:
            block = slice(0, len(rows)), slice(0, len(columns))
            return exact_softplus(_negated(rows @ columns.T + bias, *block, first, same)).sum(1)
        return _TiledJudgement.apply(rows, columns, bias, first, same, tile)


def _negated(logits: Tensor, rows: slice, columns: slice, first: int, same: Block | None) -> Tensor:
    """A block with the sign of its positive pairs turned; into a copy where autograd looks on."""
    if same is not None:
        return torch.where(same(rows, columns), -logits, logits)
    logits = logits.clone() if logits.requires_grad else logits
    own_pairs(logits, rows, columns, first)[1].neg_()
    return logits


class _TiledJudgement(Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, bias: Tensor, first: int, same: Any, tile: int
    ) -> Tensor:
        ctx.save_for_backward(rows, columns, bias)
        ctx.first, ctx.same, ctx.tile = first, same, tile
        sums = rows.new_zeros(len(rows))
        for r, c, logits in tiles(rows, columns, tile):
            sums[r] += exact_softplus(_negated(logits.add_(bias), r, c, first, same)).sum(1)
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second_derivatives()
        rows, columns, bias = ctx.saved_tensors
        products = Products(rows, columns, ctx.needs_input_grad)
        of_bias = torch.zeros_like(bias)
        with own_precision(rows):
            for r, c, logits in tiles(rows, columns, ctx.tile):
                negated = _negated(logits.add_(bias), r, c, ctx.first, ctx.same)
                gradient = _negated(negated.sigmoid_(), r, c, ctx.first, ctx.same)
                gradient *= grads[0][r, None]
                of_bias += gradient.sum()
                products.add(r, c, gradient)
        return products.of_rows, products.of_columns, of_bias, None, None, None
