"""Rows that choose among columns: whole or tile by tile.

Both forms work on logits = rows @ columns.T, (R, C). The whole form holds them (fastest for usual
batches). The tiled form never does: forward keeps a maximum and a sum for each row (a running
log-sum-exp), backward computes every tile again, so memory grows with R + C instead of R * C, for
one more matrix product a weight or logit. Values and gradients are the same up to rounding. Tiles
are square; a side of 512 suits a CPU (``benchmarks/speed/objectives.py``). First derivatives only.

Everything is computed in the dtype of ``rows``, also under autocast. Letters: R rows, C columns,
D width; a block is the part (r, c) of an (R, C) matrix that two slices cut out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.autograd import Function

from multimodal.objectives.tools.blocks import fold, fused, scaled_exp

Block = Callable[[slice, slice], Tensor]


@dataclass(frozen=True)
class Targets:
    """What every row should choose.

    first: the column of row 0's own pair; that of row i is first + i.
    weights: blocks of weights >= 0, not normalised, without gradient; None: only the own pair has
        weight. excluded: bool blocks, True where a column is no candidate; such a column has no
        weight. None: all are candidates.
    decoupled: the own pair is no candidate, yet what is wanted (there are no weights then). Losses
        are the log-sum-exp of the candidates minus the own logit, below 0 where that is larger; so
        more candidates of a row's own can be added. Without any it is the lowest number.
    """

    first: int = 0
    weights: Block | None = None
    excluded: Block | None = None
    decoupled: bool = False


class Choice(NamedTuple):
    """Of each row; only ``losses`` has a gradient.

    losses: (R,) cross-entropy from the normalised weights T to the softmax of the logits, in nats;
    0 in a row without weights. mass: (R,) sum of the weights. entropy: (R,) of T, in nats.
    right: (R,) bool, the own pair's logit is above those of all other candidates (ties are wrong).
    """

    losses: Tensor
    mass: Tensor
    entropy: Tensor
    right: Tensor


def choose(
    rows: Tensor, columns: Tensor, targets: Sequence[Targets], *, tile: int | None
) -> list[Choice]:
    """The choice of rows (R, D) among columns (C, D) by their inner products.

    targets: of the rows and, if there are two, of the columns, which then choose among the rows.
    tile: None holds the (R, C) logits. ValueError if it is below 1.
    """
    check_tile(tile)
    with own_precision(rows):
        if tile is None:
            logits = rows @ columns.T
            return [_whole(x, t) for x, t in zip((logits, logits.T), targets, strict=False)]
        sides = [_Side(t, len(x), rows) for x, t in zip((rows, columns), targets, strict=False)]
        losses = _TiledChoice.apply(rows, columns, sides, tile)
    return [s.choice(x) for s, x in zip(sides, losses, strict=True)]


def check_tile(tile: int | None) -> None:
    if tile is not None and tile < 1:
        raise ValueError(f"tile: {tile} rows a tile; give at least 1, or None for no tiles.")


def own_precision(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _lowest(x: Tensor) -> float:
    """Stands for minus infinity without its NaN: exp of it is 0 and 0 times it is 0."""
    return torch.finfo(x.dtype).min


def _whole(logits: Tensor, targets: Targets) -> Choice:
    block = slice(0, logits.shape[0]), slice(0, logits.shape[1])
    own_logits = logits.diagonal(targets.first)
    logits = _candidates(targets, *block, logits)
    own = own_logits.detach()
    if targets.decoupled:
        right = (logits.detach() < own[:, None]).all(1)
        losses = logits.logsumexp(1) - own_logits
        return Choice(losses, torch.ones_like(own), torch.zeros_like(own), right)
    right = (logits.detach() >= own[:, None]).sum(1) == 1
    log_p = logits.log_softmax(1)
    if targets.weights is None:
        return Choice(
            -log_p.diagonal(targets.first), torch.ones_like(own), torch.zeros_like(own), right
        )
    weights = targets.weights(*block)
    mass = weights.sum(1)
    losses = -(weights * log_p).sum(1) / _divisor(mass)
    return Choice(losses, mass, _entropy(mass, _w_log_w(weights).sum(1)), right)


def _candidates(targets: Targets, rows: slice, columns: slice, logits: Tensor) -> Tensor:
    """A block with the lowest number where a column is no candidate."""
    lowest = _lowest(logits)
    if targets.excluded is not None:
        logits = logits.masked_fill(targets.excluded(rows, columns), lowest)
    if targets.decoupled:
        logits = logits.clone()
        own_pairs(logits, rows, columns, targets.first)[1].fill_(lowest)
    return logits


def _divisor(mass: Tensor) -> Tensor:
    """A row without weights has sums of 0; any divisor but 0 leaves them so."""
    return mass.masked_fill(mass == 0, 1.0)


def _w_log_w(weights: Tensor) -> Tensor:
    return weights * weights.clamp_min(torch.finfo(weights.dtype).tiny).log()  # 0 at 0


def _entropy(mass: Tensor, w_log_w: Tensor) -> Tensor:
    """-sum T ln T of T = W / mass, from sums over W."""
    return _divisor(mass).log() - w_log_w / _divisor(mass)


def tiles(rows: Tensor, columns: Tensor, tile: int) -> Iterator[tuple[slice, slice, Tensor]]:
    for i in range(0, len(rows), tile):
        r = slice(i, min(i + tile, len(rows)))
        for j in range(0, len(columns), tile):
            c = slice(j, min(j + tile, len(columns)))
            yield r, c, rows[r] @ columns[c].T


def own_pairs(
    block: Shaped[Tensor, "r c"], rows: slice, columns: slice, first: int
) -> tuple[slice, Shaped[Tensor, " own"]]:
    """The rows of a block whose own pair lies in it, and a view of those entries."""
    start = max(rows.start, columns.start - first)
    stop = max(start, min(rows.stop, columns.stop - first))
    return slice(start, stop), block.diagonal(first + rows.start - columns.start)


class _Side:
    """One direction: what is known of each row after the tiles seen so far."""

    def __init__(self, targets: Targets, count: int, like: Tensor) -> None:
        self.targets = targets
        self.maximum, self.rival = like.new_full((2, count), _lowest(like))
        self.sum, self.own, self.expected = like.new_zeros(3, count)
        self.mass, self.w_log_w = like.new_zeros(2, count)

    def see(self, rows: slice, columns: slice, logits: Tensor) -> None:
        """Take in one block of logits (r, c)."""
        targets = self.targets
        own_rows, own = own_pairs(logits, rows, columns, targets.first)
        self.own[own_rows] = own
        if targets.weights is not None:
            weights = targets.weights(rows, columns)
            self.mass[rows] += weights.sum(1)
            self.expected[rows] += (weights * logits).sum(1)
            self.w_log_w[rows] += _w_log_w(weights).sum(1)
        logits = _candidates(targets, rows, columns, logits)
        taken = fused(fold, logits.device.type)(logits, self.maximum[rows], self.sum[rows])
        highest, self.maximum[rows], self.sum[rows] = taken
        if len(own):
            others = logits.clone()
            own_pairs(others, rows, columns, targets.first)[1].fill_(_lowest(logits))
            highest = others.amax(1)
        self.rival[rows] = torch.maximum(self.rival[rows], highest)

    def losses(self) -> Tensor:
        """(R,), after the last tile. The maximum is taken off first: exact for confident rows."""
        if self.targets.weights is None:
            return self.sum.log() + (self.maximum - self.own)
        losses = self.sum.log() + (self.maximum - self.expected / _divisor(self.mass))
        return losses.masked_fill(self.mass == 0, 0.0)

    def gradient(self, rows: slice, columns: slice, logits: Tensor, grad: Tensor) -> Tensor:
        """(r, c): (softmax - T) * grad, the gradient of these rows' losses (grad: (R,))."""
        targets = self.targets
        softmax = fused(scaled_exp, logits.device.type)
        logits = _candidates(targets, rows, columns, logits)
        if targets.weights is None:
            gradient = softmax(logits, self.maximum[rows], (grad / self.sum)[rows])
            own_rows, own = own_pairs(gradient, rows, columns, targets.first)
            own.sub_(grad[own_rows])
            return gradient
        grad = grad.masked_fill(self.mass == 0, 0.0)
        gradient = softmax(logits, self.maximum[rows], (grad / self.sum)[rows])
        share = (grad / _divisor(self.mass))[rows, None]
        return gradient.addcmul_(targets.weights(rows, columns), share, value=-1)

    def choice(self, losses: Tensor) -> Choice:
        mass = self.mass if self.targets.weights is not None else torch.ones_like(self.mass)
        return Choice(losses, mass, _entropy(mass, self.w_log_w), self.own > self.rival)


class _TiledChoice(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, sides: list[_Side], tile: int) -> Any:
        ctx.save_for_backward(rows, columns)
        ctx.sides, ctx.tile = sides, tile
        for r, c, logits in tiles(rows, columns, tile):
            for side, place in zip(sides, ((r, c, logits), (c, r, logits.T)), strict=False):
                side.see(*place)
        return tuple(side.losses() for side in sides)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second_derivatives()
        rows, columns = ctx.saved_tensors
        products = Products(rows, columns, ctx.needs_input_grad)
        with own_precision(rows):
            for r, c, logits in tiles(rows, columns, ctx.tile):
                gradient = ctx.sides[0].gradient(r, c, logits, grads[0])
                if len(ctx.sides) == 2:
                    gradient += ctx.sides[1].gradient(c, r, logits.T, grads[1]).T
                products.add(r, c, gradient)
        return products.of_rows, products.of_columns, None, None


def refuse_second_derivatives() -> None:
    """They would be wrong silently: what forward kept is taken for constant."""
    if torch.is_grad_enabled():
        raise ValueError(
            "tile: tiles have first derivatives only; give None for create_graph=True."
        )


class Products:
    """The gradients of rows and columns, those that are wanted, from gradients of logits."""

    def __init__(self, rows: Tensor, columns: Tensor, wanted: Sequence[bool]) -> None:
        self.rows, self.columns = rows, columns
        self.of_rows = torch.zeros_like(rows) if wanted[0] else None
        self.of_columns = torch.zeros_like(columns) if wanted[1] else None

    def add(self, r: slice, c: slice, gradient: Tensor) -> None:
        if self.of_rows is not None:
            self.of_rows[r].addmm_(gradient, self.columns[c])
        if self.of_columns is not None:
            self.of_columns[c].addmm_(gradient.T, self.rows[r])
