"""Losses that take the behaviour of InfoNCE apart: hard negatives only, and cosines alone.

Wang and Liu, "Understanding the Behaviour of Contrastive Loss", CVPR 2021, arXiv:2012.09740, a
reconstruction: settings and equations are from public notes on the paper. With cosines s_ij of the
anchor i and the candidate j, its own pair j = i, tau the temperature, N candidates::

    hard    = mean_i -log [ e^{s_ii / tau} / ( e^{s_ii / tau} + sum_{s_ik >= s_alpha} e^{s_ik / tau}
              ) ],  k != i, s_alpha the upper alpha-quantile of the anchor's negatives
    simple  = mean_i [ -s_ii + lambda sum_{k != i} s_ik ]

We deviate: both are the mean of both directions of pairs, negatives are those of the batch (the
paper's are a memory bank's), and lambda (N - 1) is the weight ``repulsion`` of a mean over
negatives, so that its meaning does not depend on N. With 1, ``simple`` is the limit of N / (N - 1)
tau (InfoNCE - log N) for a high tau. The paper's hard form of ``simple`` is not here.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field, model_validator
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.gather import Rows, same_ids, two_way, unit_pair
from multimodal.objectives.tools.tiled import Block, Targets, own_pairs, own_precision
from multimodal.objectives.tools.words import changed


@OBJECTIVES.register("hard_contrastive")
class HardContrastiveConfig(AlignmentConfig):
    """InfoNCE against the hardest negatives alone (arXiv:2012.09740), a reconstruction; see
    ``behaviour.py``.

    alpha: the share of an anchor's negatives that stay, the nearest ones; at least one does. The
    default is the paper's for CIFAR. Its temperature is fixed.
    """

    masks: ClassVar[bool] = True

    learn_scale: bool = False
    alpha: float = Field(default=0.0819, gt=0, le=1)

    @property
    def row_name(self) -> str:
        return (
            f"{self.registered_name} (reconstruction){changed(self, ('alpha',))}{self.scale_words}"
        )

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "alpha")

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        return hard_contrastive(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            alpha=self.alpha,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )


@OBJECTIVES.register("simple_contrastive")
class SimpleContrastiveConfig(AlignmentConfig):
    """Cosines without softmax (arXiv:2012.09740), a reconstruction; see ``behaviour.py``.

    repulsion: the weight of the mean cosine of negatives. scale: the loss has none; with it cosines
    become probabilities where a model is asked for some.
    """

    masks: ClassVar[bool] = True

    learn_scale: bool = False
    repulsion: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @property
    def row_name(self) -> str:
        return f"{self.registered_name} (reconstruction){changed(self, ('repulsion',))}"

    @property
    def named(self) -> tuple[str, ...]:
        return ("repulsion",)

    @model_validator(mode="after")
    def _has_no_scale_and_no_matrix(self) -> Self:
        if self.learn_scale:
            raise ValueError("learn_scale: this loss has no temperature to learn; leave it out")
        if self.tile is not None:
            raise ValueError(
                f"tile={self.tile}: this loss has no similarity matrix to be tiled; leave it out"
            )
        return self

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        return simple_contrastive(
            pairs.signals,
            pairs.texts,
            repulsion=self.repulsion,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
        )


def hard_contrastive(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    alpha: float = 0.0819,
    ids: Int[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Symmetric InfoNCE, every anchor against the nearest negatives alone (module docstring).

    a, b: (N, D), pairs by row, of any length. scale: 1 / tau. alpha: in (0, 1]; of n negatives
    (those of all processes) ceil(alpha n) stay, and all that are as near as the last of them; which
    ones has no gradient. 1: InfoNCE. ids: (N,) integers; pairs of equal id are no negatives of each
    other. present, gather, tile: as in ``contrastive.py``; with tiles, (tile, N) cosines are held.
    Of one pair it is 0.

    terms: those of ``info_nce``, of the candidates that stay, and negatives (mean number).
    ValueError: alpha out of range, shapes that do not fit.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha: {alpha}; give the share of negatives that stay, in (0, 1].")
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    equal = None if ids is None else same_ids(ids, a, rows, name="ids", own=False)
    sides = [_Hard(x, y, rows, equal, alpha, tile) for x, y in ((a, b), (b, a))]
    targets = (Targets(rows.first, excluded=sides[0]), Targets(rows.first, excluded=sides[1]))
    forth, back = two_way(a, b, scale, targets, rows, tile=tile)
    terms = {
        "a_to_b": rows.own_mean(forth.losses.detach()),
        "b_to_a": rows.own_mean(back.losses.detach()),
        "accuracy_a_to_b": rows.own_mean(forth.right.float()),
        "accuracy_b_to_a": rows.own_mean(back.right.float()),
        "negatives": rows.own_mean((sides[0].kept + sides[1].kept) / 2),
        "scale": scale.detach(),
    }
    return Loss((rows.mean(forth.losses) + rows.mean(back.losses)) / 2, terms)


class _Hard:
    """Blocks that are True where a column is no candidate of a row: it is not near enough, or
    ``equal`` is True. kept: (R,) negatives that stay.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        rows: Rows,
        equal: Block | None,
        alpha: float,
        tile: int | None,
    ) -> None:
        x, y = x.detach(), y.detach()
        self.rows, self.columns = rows.own(x), rows.everyone(y, grad=False)
        self.first, self.equal = rows.first, equal
        count = len(self.rows)
        self.nearest, self.kept = x.new_zeros(count), x.new_zeros(count)
        every, step = slice(0, len(self.columns)), max(tile or count, 1)
        for start in range(0, count, step):
            r = slice(start, min(start + step, count))
            cosines = self._cosines(r, every).masked_fill(self._no_negatives(r, every), -torch.inf)
            stay = (alpha * (cosines > -torch.inf).sum(1, dtype=torch.float64) - 1e-9).ceil()
            last = (stay.long() - 1).clamp(min=0)[:, None]
            # Cosines of other tiles differ by rounding; what is equal must be so in all of them.
            rounding = 16 * torch.finfo(x.dtype).eps
            most = int(last.max()) + 1
            self.nearest[r] = cosines.topk(most, dim=1).values.gather(1, last)[:, 0]
            self.nearest[r] -= rounding
            self.kept[r] = ((cosines >= self.nearest[r, None]) & (cosines > -torch.inf)).sum(1)
        self.whole = None
        if tile is None:
            self.whole = self._far(slice(0, count), every)

    def _cosines(self, r: slice, c: slice) -> Tensor:
        with own_precision(self.rows):
            return self.rows[r] @ self.columns[c].T

    def _no_negatives(self, r: slice, c: slice) -> Tensor:
        """Equal ones, and the own pair."""
        if self.equal is not None:
            block = self.equal(r, c)
        else:
            block = self.rows.new_zeros(r.stop - r.start, c.stop - c.start, dtype=torch.bool)
        own_pairs(block, r, c, self.first)[1].fill_(True)
        return block

    def __call__(self, r: slice, c: slice) -> Tensor:
        return self._far(r, c) if self.whole is None else self.whole[r, c]

    def _far(self, r: slice, c: slice) -> Tensor:
        block = self._cosines(r, c) < self.nearest[r, None]
        if self.equal is not None:
            block |= self.equal(r, c)
        own_pairs(block, r, c, self.first)[1].fill_(False)
        return block


def simple_contrastive(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    *,
    repulsion: float = 1.0,
    ids: Int[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """``mean_i [ -s_ii + repulsion mean_{k != i} s_ik ]``, the mean of both directions.

    a, b: (N, D), pairs by row, of any length. ids, present, gather: as in ``hard_contrastive``; an
    anchor without negatives has its first term alone. There is no (N, N) matrix, hence no tiles:
    a sum of cosines is the cosine of a sum. In [-1 - repulsion, 1 + repulsion].

    terms: positive (mean s_ii), negative (mean over anchors of their mean s_ik).
    """
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    if ids is not None:
        same_ids(ids, a, rows, name="ids", own=False)  # refuses what does not fit
    own = (rows.own(a) * rows.own(b)).sum(1)
    mean = [_negative(x, y, ids, rows) for x, y in ((a, b), (b, a))]
    value = repulsion * (rows.mean(mean[0]) + rows.mean(mean[1])) / 2 - rows.mean(own)
    terms = {
        "positive": rows.own_mean(own.detach()),
        "negative": rows.own_mean((mean[0] + mean[1]).detach() / 2),
    }
    return Loss(value, terms)


def _negative(x: Tensor, y: Tensor, ids: Tensor | None, rows: Rows) -> Tensor:
    """(own,) mean cosines of rows x with the y that are neither their own nor of their id."""
    everyone = rows.everyone(y)
    if ids is None:
        others, number = everyone.sum(0) - rows.own(y), max(rows.count - 1, 1)
    else:
        known, place, counts = rows.everyone(ids, grad=False).unique(
            return_inverse=True, return_counts=True
        )
        sums = everyone.new_zeros(len(known), y.shape[1]).index_add(0, place, everyone)
        mine = torch.searchsorted(known, rows.own(ids))
        others = sums.sum(0) - sums[mine]
        number = (rows.count - counts[mine]).clamp(min=1)
    return (rows.own(x) * others).sum(1) / number
