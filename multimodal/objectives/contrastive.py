"""Contrastive losses of paired embeddings: InfoNCE (CLIP), several positives, classes, SigLIP.

Common to all: a and b are (N, D), in pairs by row, of any length (they are normalised inside) and
any float type (computed in float32, float64 stays, also under autocast). scale: scalar tensor > 0
that multiplies the cosines, 1 / temperature. gather: the batch is that of all processes; each then
averages over its own rows, so that data-parallel averaging gives the gradient of the mean over the
whole batch (``tools/gather.py``). present: (N,) bool, rows that take part, as anchors, as
candidates and in the means; None: all. tile: None, or the side of the tiles in which the (N, N)
matrix is worked through without being held (``tools/tiled.py``). Values in nats. Terms of a process
are of its own rows. ValueError if shapes do not fit, an option is out of range, or the processes'
batches differ; "..." and Shaped in a signature mark what is refused by that error.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.gather import (
    Rows,
    first_row,
    gather_rows,
    mean_over_processes,
    same_ids,
    scalar,
    scaled,
    two_way,
    unit,
    unit_pair,
)
from multimodal.objectives.tools.judged import judge
from multimodal.objectives.tools.tiled import Block, Targets, choose, own_pairs


@OBJECTIVES.register("clip")
class ClipConfig(AlignmentConfig):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020). smoothing: this share of every
    target goes to all pairs of the batch alike (label smoothing, ours: a control for objectives
    with soft targets).
    """

    masks: ClassVar[bool] = True

    smoothing: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda share: share == 0)

    @property
    def row_name(self) -> str:
        smoothed = f", smoothed {self.smoothing:g}" if self.smoothing else ""
        return f"{self.registered_name}{smoothed}{self.scale_words}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "smoothing")

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        return info_nce(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            smoothing=self.smoothing,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )


@OBJECTIVES.register("siglip")
class SiglipConfig(AlignmentConfig):
    """Sigmoid loss (Zhai et al. 2023, arXiv:2303.15343). mask_duplicates: equal texts are then
    positives.
    """

    masks: ClassVar[bool] = True
    uses_bias: ClassVar[bool] = True

    scale: float = Field(default=10.0, ge=1, le=1000)
    bias: float = -10.0

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        ids = pairs.ids if self.mask_duplicates else None
        return siglip(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            pairs.bias,
            ids=ids,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )


def info_nce(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    smoothing: float = 0.0,
    ids: Int[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Symmetric InfoNCE, the mean of both directions (Radford et al. 2021, CLIP):

    ``-1/N sum_i log softmax_j(scale <a_i, b_j>)[i]``, and the same with a and b exchanged.

    smoothing: s in [0, 1): the target is 1 - s on the own pair and s / N on each of the N pairs (of
    all processes). ids: (N,) integers; pairs of equal id (the same caption, the same patient) are
    then no candidates for each other, nor in the smoothing. None, as in CLIP: every other pair is
    one. ValueError for a smoothing out of range.
    terms: both directions, their accuracies (own pair first; ties are wrong), scale.
    """
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    excluded = None
    if ids is not None:
        excluded = same_ids(ids, a, rows, name="ids", own=False)
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing: {smoothing}; give a share of at least 0 and below 1.")
    weights = _smoothed(a, rows, smoothing, excluded) if smoothing else None
    targets = Targets(rows.first, weights=weights, excluded=excluded)
    forth, back = two_way(a, b, scale, (targets, targets), rows, tile=tile)
    terms = {
        "a_to_b": rows.own_mean(forth.losses.detach()),
        "b_to_a": rows.own_mean(back.losses.detach()),
        "accuracy_a_to_b": rows.own_mean(forth.right.float()),
        "accuracy_b_to_a": rows.own_mean(back.right.float()),
        "scale": scale.detach(),
    }
    return Loss((rows.mean(forth.losses) + rows.mean(back.losses)) / 2, terms)


def _smoothed(a: Tensor, rows: Rows, share: float, excluded: Block | None) -> Block:
    """Blocks of targets, normalised where nothing is excluded."""
    count = max(rows.count, 1)

    def block(r: slice, c: slice) -> Tensor:
        weights = a.new_full((r.stop - r.start, c.stop - c.start), share / count)
        own_pairs(weights, r, c, rows.first)[1].fill_(1 - share + share / count)
        return weights if excluded is None else weights.masked_fill(excluded(r, c), 0.0)

    return block


def multi_positive(
    a: Float[Tensor, "batch dim"],
    b: Float[Tensor, "batch dim"],
    ids: Shaped[Tensor, " batch"],
    scale: Float[Tensor, ""],
    *,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """InfoNCE with equal weight on all pairs of one id, the mean of both directions:

    ``-1/N sum_i 1/|P_i| sum_{j in P_i} log softmax_j(scale <a_i, b_j>)[j]``, with P_i the pairs j
    of i's id (i itself among them), and the same with a and b exchanged. The mean is outside the
    logarithm (L_out of Khosla et al. 2020), so the minimum is the mean of log |P_i|, not 0.

    ids: (N,) integers: classes, captions, patients. terms: both directions, positives (mean
    |P_i|), scale.
    """
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    same = same_ids(ids, a, rows, name="ids", own=True)
    targets = Targets(rows.first, weights=lambda r, c: same(r, c).to(a.dtype))
    forth, back = two_way(a, b, scale, (targets, targets), rows, tile=tile)
    terms = {
        "a_to_b": rows.own_mean(forth.losses.detach()),
        "b_to_a": rows.own_mean(back.losses.detach()),
        "positives": rows.own_mean(forth.mass),
        "scale": scale.detach(),
    }
    return Loss((rows.mean(forth.losses) + rows.mean(back.losses)) / 2, terms)


def supervised_contrastive(
    x: Float[Tensor, "..."],
    labels: Shaped[Tensor, "..."],
    scale: Float[Tensor, ""],
    *,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Supervised contrastive loss within one set of embeddings (Khosla et al. 2020, L_out):

    ``-mean_i 1/|P_i| sum_{p in P_i} [ s <x_i, x_p> - log sum_{j != i} exp(s <x_i, x_j>) ]``, s the
    scale, P_i the other rows of i's label. Rows without any are skipped (the mean is over the rest,
    with ``gather`` of all processes); 0 if none is left. The paper sums over the anchors and has
    the views of an image in the batch as rows of one label; we take the mean.

    x: (N, D). labels: (N,) integers. terms: anchors (share of rows with positives), positives (mean
    |P_i| over all rows), scale.
    """
    x = unit(x, "x")
    first = first_row(x, gather)
    others = same_ids(labels, x, Rows(x, None, gather=gather), name="labels", own=False)

    def itself(r: slice, c: slice) -> Tensor:
        block = torch.zeros(r.stop - r.start, c.stop - c.start, dtype=torch.bool, device=x.device)
        own_pairs(block, r, c, first)[1].fill_(True)
        return block

    targets = Targets(first, weights=lambda r, c: others(r, c).to(x.dtype), excluded=itself)
    columns = gather_rows(x) if gather else x
    (choice,) = choose(*scaled(x, columns, scale), (targets,), tile=tile)
    anchors = (choice.mass > 0).sum().to(x.dtype)
    count = mean_over_processes(anchors) if gather else anchors
    value = choice.losses.sum() / count.masked_fill(count == 0, 1.0)
    terms = {
        "anchors": anchors / len(x),
        "positives": choice.mass.mean(),
        "scale": scale.detach(),
    }
    return Loss(value, terms)


def siglip(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, "..."],
    *,
    ids: Int[Tensor, " batch"] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Sigmoid loss of every pair (Zhai et al. 2023):

    ``-1/N sum_ij log sigmoid(z_ij (scale <a_i, b_j> + bias))``, z_ij = 1 for i = j, else -1.

    bias: scalar tensor; the paper starts with scale 10 and bias -10. ids: (N,) integers; pairs of
    equal id are then positives too (our extension). terms: own (mean loss of the N own pairs), rest
    (all that remains), scale, bias.
    """
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    same = None
    if ids is not None:
        same = same_ids(ids, a, rows, name="ids", own=True)
    factors = scaled(rows.own(a), rows.everyone(b), scale)
    bias = scalar(bias, "bias", a.dtype)
    sums = judge(*factors, bias, rows.first, same, tile)
    with torch.no_grad():
        cosines = (rows.own(a) * rows.own(b)).sum(1)
        own = rows.own_mean(softplus(-(scale * cosines + bias)))
    terms = {
        "own": own,
        "rest": rows.own_mean(sums.detach()) - own,
        "scale": scale.detach(),
        "bias": bias.detach(),
    }
    return Loss(rows.mean(sums), terms)
