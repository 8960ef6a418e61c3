"""Contrast of any number of views with one term a case: multi-view InfoNCE and DHEL.

Koromilas et al., "A Principled Framework for Multi-View Contrastive Learning", arXiv 2507.06979.
With unit rows U_il of case i in view l, s the scale (1 / tau)::

    A_i        = log sum_{l < l'} exp(s U_il . U_il')
    MV-InfoNCE = mean_i [ -(A_i + log 2) + log sum_l sum_{(j, m) != (i, l)} exp(s U_il . U_jm) ]
    MV-DHEL    = mean_i [ -A_i + sum_l log sum_{j != i} exp(s U_il . U_jl) ]

That is what the authors' code computes. Its README differs: there MV-InfoNCE has no pairs within a
view, MV-DHEL has j = i, and the signs are missing. The code multiplies the sums of all views before
it takes the logarithm, which overflows; here logarithms are added.

MV-DHEL pushes cases apart within each view only: it neither opens nor closes a gap between
modalities by itself.

Ours: cases that lack views. A case is an anchor if it has two views or more, with those it has
(the mean is over these), and what it has is a candidate in any case. In MV-DHEL a view in which no
other case is has nothing to push away: its term is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.joint import Cases, JointConfig
from multimodal.objectives.tools.gather import scalar, scaled
from multimodal.objectives.tools.recomputed import by_rows
from multimodal.objectives.tools.tiled import own_precision
from multimodal.objectives.views import Views

Excluded = Callable[[slice], Tensor]


@OBJECTIVES.register("mv_infonce")
class MvInfoNceConfig(JointConfig):
    """Multi-view InfoNCE, one term a case for all its views; see ``multiview.py``.

    temperature: published are 0.1 (ImageNet) and 0.5 (CIFAR).
    """

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        return mv_info_nce(views.embeddings, views.scale, gather=gather, **self.options(views))


@OBJECTIVES.register("mv_dhel")
class MvDhelConfig(JointConfig):
    """Multi-view DHEL: attraction over all views, repulsion within each; see ``multiview.py``.

    temperature: published are 0.1 (ImageNet) and 0.5 (CIFAR).
    """

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        return mv_dhel(views.embeddings, views.scale, gather=gather, **self.options(views))


def mv_info_nce(
    views: Mapping[str, Float[Tensor, "..."]],
    scale: Float[Tensor, "..."],
    *,
    ids: Shaped[Tensor, "..."] | None = None,
    present: Mapping[str, Shaped[Tensor, "..."]] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """MV-InfoNCE of the module's docstring, >= 0; in float32 (float64 stays), also under autocast.

    views: name -> (N, D), rows of any length, two views or more. scale: scalar tensor > 0. ids:
    (N,) integers; cases of equal id are no negatives of each other. None: all are. present: name ->
    (N,) bool, cases that have the view; without an entry all have. gather: as in
    ``contrastive.py``. tile: rows that are compared with all at a time.
    terms: attraction (mean A_i), repulsion (mean of the rest), cosine (mean over the pairs of an
    anchor's views), views (mean number of these), scale; of this process's anchors.
    ValueError: shapes, masks or ids that do not fit; fewer than two views.
    """
    cases = Cases(views, present, gather=gather)
    names = tuple(cases.units)
    rows, columns, own, seen = [], [], [], []
    for view, name in enumerate(names):
        x, of = cases.units[name], cases.rows[name]
        rows.append(of.own(x))
        columns.append(of.everyone(x))
        key = torch.stack([cases.numbers, torch.full_like(cases.numbers, view)], 1)
        known = cases.numbers if ids is None else cases.ids(ids)
        key = torch.cat([key, known[:, None]], 1)
        own.append(of.own(key))
        seen.append(of.everyone(key, grad=False))
    mine, theirs = torch.cat(own), torch.cat(seen)

    def excluded(r: slice) -> Tensor:
        """(r, C): a row itself, and those of other cases that have its id."""
        case, view, known = (mine[r, i, None] == theirs[:, i] for i in range(3))
        return torch.where(case, view, known)

    sums = _log_sums(torch.cat(rows), torch.cat(columns), scale, excluded, tile)
    spread = sums.new_full((len(names), len(cases.there)), torch.finfo(sums.dtype).min)
    each = spread.masked_scatter(cases.there.T, sums).logsumexp(0)
    return _loss(cases, each - torch.log(each.new_tensor(2.0)), scale)


def mv_dhel(
    views: Mapping[str, Float[Tensor, "..."]],
    scale: Float[Tensor, "..."],
    *,
    ids: Shaped[Tensor, "..."] | None = None,
    present: Mapping[str, Shaped[Tensor, "..."]] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """MV-DHEL of the module's docstring; arguments, terms and errors are those of
    ``mv_info_nce``. Of two views it is the DHEL loss. It may be below 0.
    """
    cases = Cases(views, present, gather=gather)
    each = next(iter(cases.units.values())).new_zeros(len(cases.there))
    for view, (name, x) in enumerate(cases.units.items()):
        of = cases.rows[name]
        known = cases.numbers if ids is None else cases.ids(ids)
        key = torch.stack([cases.numbers, known], 1)
        mine, theirs = of.own(key), of.everyone(key, grad=False)

        def excluded(r: slice, mine: Tensor = mine, theirs: Tensor = theirs) -> Tensor:
            return (mine[r, None] == theirs).any(2)

        sums = _log_sums(of.own(x), of.everyone(x), scale, excluded, tile)
        alone = sums <= torch.finfo(sums.dtype).min / 2
        spread = torch.zeros_like(each)
        sums = sums.masked_fill(alone, 0.0)
        each = each + spread.masked_scatter(cases.there[:, view], sums)
    return _loss(cases, each, scale)


def _log_sums(
    rows: Float[Tensor, "own dim"],
    columns: Float[Tensor, "all dim"],
    scale: Float[Tensor, "..."],
    excluded: Excluded,
    tile: int | None,
) -> Float[Tensor, " own"]:
    """log sum of exp(scale * cosine) over the columns that are not excluded; of a row without any
    the lowest number, without a gradient.
    """
    factors = scaled(rows, columns, scale)

    def block(r: slice) -> Tensor:
        with own_precision(rows):
            logits = factors[0][r] @ factors[1].T
            return logits.masked_fill(excluded(r), torch.finfo(logits.dtype).min).logsumexp(1)

    return by_rows(block, len(rows), tile)


def _loss(cases: Cases, repulsion: Float[Tensor, " batch"], scale: Float[Tensor, "..."]) -> Loss:
    """repulsion: of every case, also of those that are no anchors."""
    anchors = cases.with_views(2)
    pairs = list(combinations(range(cases.there.shape[1]), 2))
    units = list(cases.units.values())
    cosines = torch.stack([(units[a] * units[b]).sum(1) for a, b in pairs], 1)
    both = torch.stack([cases.there[:, a] & cases.there[:, b] for a, b in pairs], 1)
    logits = scalar(scale, "scale", cosines.dtype) * cosines
    lowest = torch.finfo(logits.dtype).min
    attraction = anchors.own(logits.masked_fill(~both, lowest).logsumexp(1))
    repulsion = anchors.own(repulsion)
    with torch.no_grad():
        number = anchors.own(both).sum(1).clamp(min=1)
        mean = anchors.own(cosines.masked_fill(~both, 0.0)).sum(1) / number
    terms = {
        "attraction": anchors.own_mean(attraction.detach()),
        "repulsion": anchors.own_mean(repulsion.detach()),
        "cosine": anchors.own_mean(mean),
        "views": anchors.own_mean(anchors.own(cases.there).sum(1).to(mean.dtype)),
        "scale": scale.detach(),
    }
    return Loss(anchors.mean(repulsion - attraction), terms)
