"""GRAM: the volume that the embeddings of a case's views span, as the measure of their agreement.

Cicchetti et al., "Gramian Multimodal Representation Learning and Alignment", arXiv 2412.11959. With
unit rows a_i of an anchor view (the text) and m_j the tuple of all other views of case j, k views
in all, G_ij the (k, k) matrix of the inner products of (a_i, m_j)::

    Vol_ij = sqrt(det G_ij);   k = 3: det G = 1 - x^2 - y^2 - z^2 + 2 x y z of the three cosines
    L = 1/2 [ CE over tuples j for each anchor + CE over anchors for each tuple ] of -Vol / tau

The determinant of all pairs needs no factorisation: with H_j the Gram matrix of the tuple and
c_ij = m_j a_i, det G_ij = det H_j - c_ij^T adj(H_j) c_ij, polynomials with exact gradients also
where H_j is singular. sqrt(det) has an infinite gradient at 0, which is perfect alignment; ours is
sqrt(max(det, 0) + 1e-6).

What to know: opposite vectors have volume 0 too, so this does not become InfoNCE of cosines; two
views of a tuple that collapse onto each other make it 0 whatever the anchor (``other_volume``); at
a random start all volumes are close to 1 and their gradients vanish with the cosines (the authors
tune towers that are trained already). Hence ``pairwise_weight`` (ours): so much InfoNCE of each
(anchor, other) pair is added.

The released code gathers without gradient, so its first term trains the anchor's tower alone and
its second the others (``detach``). Its matching head is not here, nor is its pairwise loss, which
is a constant 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.joint import Cases, JointConfig
from multimodal.objectives.tools.gather import Rows, scalar, unit, world_size
from multimodal.objectives.tools.recomputed import by_rows
from multimodal.objectives.tools.tiled import own_pairs, own_precision
from multimodal.objectives.views import TEXT, Views

FLOOR = 1e-6  # under the root


@OBJECTIVES.register("gram")
class GramConfig(JointConfig):
    """Volume spanned by the views of a case, three or more; see ``gram.py``.

    anchor: the view that chooses among tuples of all others. smoothing: this share of every target
    goes to all candidates alike. pairwise_weight: of InfoNCE of each (anchor, other) pair, added
    (ours; published: 0, for towers that are trained already). detach: candidates have no gradient
    (as released).
    """

    temperature: float = Field(default=0.07, gt=0, le=100)
    learn_temperature: bool = True
    anchor: str = TEXT
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    pairwise_weight: float = Field(default=0.1, ge=0)
    detach: bool = False

    @property
    def row_name(self) -> str:
        weight = self.pairwise_weight
        return f"{super().row_name}{f', pairwise {weight:g} (ours)' if weight else ''}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "pairwise_weight")

    def check_views(self, names: Sequence[str]) -> None:
        if len(names) < 3:
            raise ValueError(
                f"of two views ({', '.join(names)}) the volume is sqrt(1 - cosine^2), least also "
                "for opposite embeddings; take clip, or a dataset of cases with two modalities"
            )
        if self.anchor not in names:
            raise ValueError(f"anchor: no view {self.anchor!r}; there are {', '.join(names)}")

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        """ValueError: two views only, or none of the anchor's name."""
        self.check_views(tuple(views.embeddings))
        return gram(
            views.embeddings,
            views.scale,
            anchor=self.anchor,
            smoothing=self.smoothing,
            pairwise_weight=self.pairwise_weight,
            detach=self.detach,
            gather=gather,
            **self.options(views),
        )


class Span(NamedTuple):
    """T tuples of K unit rows. units: (K, T, D). adjugate: (T, K, K) of their Gram matrices, det:
    (T,) of these.
    """

    units: Tensor
    adjugate: Tensor
    det: Tensor


def gram_volume(
    anchors: Float[Tensor, "..."], others: Sequence[Float[Tensor, "..."]], *, floor: float = 0.0
) -> Float[Tensor, "anchors tuples"]:
    """(A, T) volumes in [0, 1] of each anchor with each tuple: the smaller the nearer.

    To search with: minus this is a score, also of one other view (then sqrt(1 - cosine^2)).
    anchors: (A, D), others: (T, D) each, row t of all of them being tuple t; rows of any length, a
    row of zeros gives 0. float32, float64 stays. floor: >= 0, added to the determinants.
    ValueError: no other view, shapes that do not fit.
    """
    if not others:
        raise ValueError("others: none; give the embeddings of one other view or more.")
    a = unit(anchors, "anchors")
    units = [unit(x, "others") for x in others]
    if any(x.shape != units[0].shape for x in units) or units[0].shape[1] != a.shape[1]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (a, *units))
        raise ValueError(f"shapes {shapes}; give anchors (A, D) and others (T, D) each.")
    wide = any(x.dtype == torch.float64 for x in (a, *units))
    dtype = torch.float64 if wide else torch.float32
    with own_precision(a):
        return _volumes(a.to(dtype), _span([x.to(dtype) for x in units]), floor)


def _span(units: Sequence[Tensor]) -> Span:
    rows = torch.stack(list(units))
    inner = torch.einsum("ktd,ltd->tkl", rows, rows)
    count = len(units)
    adjugate = [
        (-1) ** (k + m) * _det(_without(inner, m, k)) for k in range(count) for m in range(count)
    ]
    return Span(rows, torch.stack(adjugate, 1).unflatten(1, (count, count)), _det(inner))


def _volumes(anchors: Tensor, span: Span, floor: float) -> Tensor:
    """(A, T), in one pass over (A, T) a pair of other views."""
    cosines = [anchors @ x.T for x in span.units]
    det = (anchors * anchors).sum(1)[:, None] * span.det
    for k, x in enumerate(cosines):
        det = det - span.adjugate[:, k, k] * x * x
        for m in range(k):
            det = det - 2 * span.adjugate[:, k, m] * x * cosines[m]
    return (det.clamp(min=0) + floor).sqrt()


def _det(x: Tensor) -> Tensor:
    """(T, n, n) -> (T,), along the first row: n is small, and it is exact where x is singular."""
    if x.shape[1] == 0:
        return x.new_ones(len(x))
    parts = [(-1) ** k * x[:, 0, k] * _det(_without(x, 0, k)) for k in range(x.shape[1])]
    return torch.stack(parts).sum(0)


def _without(x: Tensor, row: int, column: int) -> Tensor:
    keep = [[i for i in range(x.shape[1]) if i != out] for out in (row, column)]
    return x[:, keep[0]][:, :, keep[1]]


def gram(
    views: Mapping[str, Float[Tensor, "..."]],
    scale: Float[Tensor, "..."],
    *,
    anchor: str = TEXT,
    smoothing: float = 0.1,
    pairwise_weight: float = 0.0,
    detach: bool = False,
    ids: Shaped[Tensor, "..."] | None = None,
    present: Mapping[str, Shaped[Tensor, "..."]] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """L of the module's docstring plus the mean over pairs of ``pairwise_weight`` * InfoNCE.

    views, scale, ids, present, gather, tile: as in ``multiview.py``; two views are taken, for
    comparison. A case that lacks a view has no volume: the mean is over those that have all, and
    the others are in the pairs that they have. smoothing: in [0, 1). detach: candidates have no
    gradient. In float32 (float64 stays), also under autocast.
    terms: anchor_to_tuple, tuple_to_anchor, accuracy_anchor_to_tuple, accuracy_tuple_to_anchor (own
    first; ties are wrong), volume (mean of the own ones), other_volume (the same without the
    anchor: near 0 its views have collapsed onto each other), cosine (mean of anchor and others),
    scale; with a weight also pairwise.
    ValueError: no view of the anchor's name, shapes, masks or ids that do not fit.
    """
    if anchor not in views:
        raise ValueError(f"anchor: no view {anchor!r}; there are {', '.join(views)}.")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing: {smoothing}; give a share of at least 0 and below 1.")
    cases = Cases(views, present, gather=gather)
    rows = cases.with_views(len(views))
    names = [name for name in views if name != anchor]
    known = cases.numbers if ids is None else cases.ids(ids)
    mine, theirs = rows.own(known), rows.everyone(known, grad=False)
    a, others = cases.units[anchor], [cases.units[name] for name in names]
    with own_precision(a):
        own = _span([rows.own(x) for x in others])
        everyone = _span([rows.everyone(x, grad=not detach) for x in others])
        anchors, all_anchors = rows.own(a), rows.everyone(a, grad=not detach)
        if detach:
            everyone, all_anchors = _detached(everyone), all_anchors.detach()
    factor = scalar(scale, "scale", a.dtype)

    def forth(r: slice) -> Tensor:
        logits = -factor * _volumes(anchors[r], everyone, FLOOR)
        return _choices(logits, r, mine, theirs, rows, smoothing)

    def back(r: slice) -> Tensor:
        part = Span(own.units[:, r], own.adjugate[r], own.det[r])
        logits = -factor * _volumes(all_anchors, part, FLOOR).T
        return _choices(logits, r, mine, theirs, rows, smoothing)

    with own_precision(a):
        if tile is None and not detach and not (gather and world_size() > 1):
            logits, every = -factor * _volumes(anchors, everyone, FLOOR), slice(0, len(mine))
            found = [_choices(x, every, mine, theirs, rows, smoothing) for x in (logits, logits.T)]
        else:
            found = [by_rows(way, len(mine), tile) for way in (forth, back)]
    terms = _terms(found, rows, anchors, own)
    value = (rows.mean(found[0][:, 0]) + rows.mean(found[1][:, 0])) / 2
    if pairwise_weight:
        pairs = _pairwise(views, anchor, scale, cases, ids=ids, gather=gather, tile=tile)
        terms["pairwise"] = pairs.detach()
        value = value + pairwise_weight * pairs
    return Loss(value, {**terms, "scale": scale.detach()})


def _choices(
    logits: Tensor, r: slice, mine: Tensor, theirs: Tensor, rows: Rows, smoothing: float
) -> Tensor:
    """(r, 2): cross-entropy of each row, and whether its own column is above all others."""
    place = r, slice(0, len(theirs)), rows.first
    excluded = mine[r, None] == theirs
    own_pairs(excluded, *place)[1].fill_(False)
    logits = logits.masked_fill(excluded, torch.finfo(logits.dtype).min)
    log_p = logits.log_softmax(1)
    own = own_pairs(log_p, *place)[1]
    spread = log_p.masked_fill(excluded, 0.0).sum(1) / (~excluded).sum(1)
    losses = -(1 - smoothing) * own - smoothing * spread
    right = (log_p.detach() >= own.detach()[:, None]).sum(1) == 1
    return torch.stack([losses, right.to(losses.dtype)], 1)


def _detached(span: Span) -> Span:
    return Span(*(x.detach() for x in span))


@torch.no_grad()
def _terms(found: Sequence[Tensor], rows: Rows, anchors: Tensor, own: Span) -> dict[str, Tensor]:
    count = len(own.units)
    cosines = torch.einsum("td,ktd->tk", anchors, own.units)
    inner = torch.einsum("tk,tkm,tm->t", cosines, own.adjugate, cosines)
    forth, back = (x.detach() for x in found)
    return {
        "anchor_to_tuple": rows.own_mean(forth[:, 0]),
        "tuple_to_anchor": rows.own_mean(back[:, 0]),
        "accuracy_anchor_to_tuple": rows.own_mean(forth[:, 1]),
        "accuracy_tuple_to_anchor": rows.own_mean(back[:, 1]),
        "volume": rows.own_mean((own.det - inner).clamp(min=0).sqrt()),
        "other_volume": rows.own_mean(own.det.clamp(min=0).sqrt()),
        "cosine": rows.own_mean(cosines.sum(1) / count),
    }


def _pairwise(
    views: Mapping[str, Tensor],
    anchor: str,
    scale: Tensor,
    cases: Cases,
    *,
    ids: Tensor | None,
    gather: bool,
    tile: int | None,
) -> Tensor:
    """The mean over the pairs (anchor, other) of InfoNCE, of the cases that have both."""
    names = list(views)
    found = []
    for name in names:
        if name != anchor:
            both = cases.there[:, names.index(anchor)] & cases.there[:, names.index(name)]
            mask = both if cases.masked else None
            loss = info_nce(
                views[anchor], views[name], scale, ids=ids, present=mask, gather=gather, tile=tile
            )
            found.append(loss.value)
    return torch.stack(found).mean()
