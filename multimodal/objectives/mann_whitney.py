"""Mann-Whitney loss: every positive against every negative score of the batch, whosever it is.

"Optimizing What Matters: AUC-Driven Learning for Robust Neural Retrieval", arXiv 2510.00137; no
code is known to us. With s+_i the cosine of query i and its own candidate and S- all other cosines
of the batch, those of all queries::

    L = mean over (i, s-) in [B] x S- of log(1 + exp(-(s+_i - s-) / tau))

InfoNCE does not change when a query's scores all grow by a constant; this does, which is what a
threshold for all queries (tagging, AUROC) needs. For every batch the share of pairs with s+ <= s-
is at most L / log 2. The paper's Eq. 3 sums over S- and has no tau; then neither the bound nor the
scale would be independent of the batch size. Signals and texts take equal parts: the cosines are
the same either way.

H false texts of each case (``negatives``) are candidates of every case, as published: then S- has
B H more scores of each query. Those B^2 (B - 1) comparisons, 1.3e8 for B = 512, are not made one
by one from ``FEW`` positives on: ``tools/pooled.py`` has their sum, exact up to rounding, in a few
passes over the B^2 scores.

Ours: cases of equal text (``mask_duplicates``) are no negatives of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.blocks import exact_softplus
from multimodal.objectives.tools.gather import (
    Rows,
    mean_over_processes,
    same_ids,
    scaled,
    unit_pair,
)
from multimodal.objectives.tools.pooled import (
    intervals_of,
    moments,
    number_above,
    sum_of_softplus,
)
from multimodal.objectives.tools.recomputed import by_rows
from multimodal.objectives.tools.tiled import own_precision

FEW = 64  # positives of which comparing pair by pair is faster
WIDEST = 2000  # scale up to which the intervals of scores are few


@OBJECTIVES.register("mann_whitney")
class MannWhitneyConfig(AlignmentConfig):
    """Mann-Whitney (AUC) loss, a bound on wrongly ordered pairs; see ``mann_whitney.py``.

    scale: 1 / tau; published is 100, fixed. negatives: false texts a case, candidates of all cases
    (published: 5, mined); the data must have them (``compose``).
    """

    masks: ClassVar[bool] = True

    scale: float = Field(default=100.0, ge=1, le=1000)
    learn_scale: bool = False
    negatives: int = Field(default=0, ge=0, le=64)

    @property
    def row_name(self) -> str:
        negatives = f", negatives={self.negatives}" if self.negatives else ""
        return f"{self.registered_name}{negatives}{self.scale_words}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "negatives")

    @property
    def extra_texts(self) -> dict[str, int]:
        return {"negatives": self.negatives} if self.negatives else {}

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        """ValueError: the data has no negatives where they are asked for."""
        negatives = allowed = None
        if self.negatives:
            if "negatives" not in pairs.extras:
                raise ValueError(
                    f"negatives={self.negatives}: the data gives no false texts; take composed "
                    "data, or negatives=0."
                )
            negatives, allowed = pairs.extras["negatives"]
        return mann_whitney(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            negatives=negatives,
            allowed=allowed,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )


def mann_whitney(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    negatives: Float[Tensor, "..."] | None = None,
    allowed: Shaped[Tensor, "..."] | None = None,
    ids: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """L of the module's docstring, >= 0; 0 where nothing is a negative (a batch of one).

    a, b, scale, present, gather: as in ``contrastive.py``. negatives: (N, H, D) candidates of all
    rows of a; allowed: (N, H) bool, those that are there. ids: (N,) integers; rows of equal id are
    no negatives of each other. tile: t rows of scores at a time, in memory of t (N + N H) (t^2 (N +
    N H) for less than ``FEW`` positives); None: N.
    terms: auc (share of pairs with s+ > s-, ties are wrong), positive and negative (mean cosines),
    scale; of this process's rows of scores. ValueError: shapes or ids that do not fit.
    """
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    known = None if ids is None else same_ids(ids, a, rows, name="ids", own=True)
    hard, there = _hard(negatives, allowed, rows, like=a)
    with own_precision(a):
        columns = rows.everyone(b)
        queries, candidates = scaled(rows.own(a), torch.cat([columns, hard]), scale)
        signals, texts = scaled(a, b, scale)
        positives = rows.everyone((signals * texts).sum(1))
        places = torch.arange(len(columns), device=a.device)

        def mask_of(r: slice) -> Tensor:
            """(r, C): which scores are negatives."""
            own = places[rows.first :][r, None] == places
            same = own if known is None else known(r, slice(0, len(columns)))
            return torch.cat([~same, there.expand(len(same), -1)], 1)

        losses, right, logits, number = _sums(queries, candidates, positives, mask_of, scale, tile)
    number = number.detach()
    pairs = len(positives) * (mean_over_processes(number) if gather else number)
    own_pairs = (len(positives) * number).clamp(min=1)
    terms = {
        "auc": right.detach() / own_pairs,
        "positive": rows.own_mean(rows.own((a * b).sum(1).detach())),
        "negative": logits.detach() / (number.clamp(min=1) * scale.detach().reshape(())),
        "scale": scale.detach(),
    }
    return Loss(losses / pairs.clamp(min=1), terms)


def _sums(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    mask_of: Callable[[slice], Tensor],
    scale: Tensor,
    tile: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Over all negative scores and positives: losses, pairs in the right order; over all negative
    scores: their sum and number. Only losses have a gradient.
    """
    limit = 1.001 * float(scale.detach().abs())
    if len(positives) < FEW or not limit < WIDEST:
        return _pair_by_pair(queries, candidates, positives, mask_of, tile)
    of = intervals_of(limit, queries.dtype)

    def block(r: slice) -> Tensor:
        """(1, intervals * nodes + 3), float64."""
        scores, mask = queries[r] @ candidates.T, mask_of(r)
        right = number_above(scores.detach(), mask, positives.detach(), of)
        total = scores.detach().masked_fill(~mask, 0.0).sum().double()
        rest = torch.stack([right, total, mask.sum().double()])
        return torch.cat([moments(scores, mask, of).flatten(), rest])[None]

    sums = by_rows(block, len(queries), tile).sum(0)
    powers = sums[:-3].view(of.count, of.nodes)
    losses = sum_of_softplus(powers, positives, of, tile=tile)
    right, total, number = sums[-3:].detach()
    own = queries.dtype
    return losses.to(own), right.to(own), total.to(own), number.to(own)


def _pair_by_pair(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    mask_of: Callable[[slice], Tensor],
    tile: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``_sums``; the fewer the faster."""

    def block(r: slice) -> Tensor:
        """(1, 4)"""
        scores, mask = queries[r] @ candidates.T, mask_of(r)

        def against(p: slice) -> Tensor:
            margins = positives[p, None, None] - scores
            losses = exact_softplus(-margins).masked_fill(~mask, 0.0).sum((1, 2))
            right = ((margins > 0) & mask).sum((1, 2)).to(losses.dtype)
            return torch.stack([losses, right], 1)

        sums = by_rows(against, len(positives), tile).sum(0)
        total = scores.detach().masked_fill(~mask, 0.0).sum()
        return torch.stack([*sums, total, mask.sum().to(total.dtype)])[None]

    losses, right, total, number = by_rows(block, len(queries), tile).sum(0)
    return losses, right, total, number


def _hard(
    negatives: Tensor | None, allowed: Tensor | None, rows: Rows, *, like: Tensor
) -> tuple[Tensor, Tensor]:
    """(all H, D) false texts of all rows, unit length, and which are there, (all H,) bool."""
    if negatives is None:
        return like.new_zeros(0, like.shape[1]), like.new_zeros(0, dtype=torch.bool)
    if negatives.dim() != 3 or (len(negatives), negatives.shape[2]) != like.shape:
        raise ValueError(
            f"negatives: shape {tuple(negatives.shape)}; give H of each row of "
            f"{tuple(like.shape)}, (N, H, D)."
        )
    if allowed is None:
        allowed = torch.ones(negatives.shape[:2], dtype=torch.bool, device=like.device)
    if allowed.shape != negatives.shape[:2] or allowed.dtype != torch.bool:
        raise ValueError(
            f"allowed: shape {tuple(allowed.shape)} of {allowed.dtype}; give a bool of each vector "
            f"of {tuple(negatives.shape)}."
        )
    clean = rows.clean(negatives).masked_fill(~allowed[..., None], 0.0).to(like.dtype)
    length = torch.linalg.vector_norm(clean, dim=2, keepdim=True).clamp_min(1e-8)
    found = rows.everyone(clean / length)
    return found.flatten(0, 1), rows.everyone(allowed, grad=False).flatten()
