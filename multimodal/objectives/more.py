"""MoRE: contrast of an anchor view with others, a reconstruction.

Thapa, Howlader, Bhattacharjee, Le, "MoRE: Multi-Modal Contrastive Pre-training with Transformers on
X-Rays, ECGs, and Diagnostic Report", arXiv 2410.16239. The paper's body was not available to us;
what follows is the loss of its authors' code. With views a, b of N cases, tau the temperature::

    s_ab(i, j) = <a_i / |a_i|, b_j / |b_j|> / tau
    NCE(a -> b) = -1/N sum_i log softmax_j(s_ab(i, j))[i]
    value = sum over pairs (a, b, weight) of weight * 1/2 [NCE(a -> b) + NCE(b -> a)]

The published pairs are (text, X-ray) and (text, ECG), each with weight 1; the sum is not divided by
their number, and text is the only anchor. Ours: pairs of any views, cases that lack some, what is
done about false negatives, and a learned temperature (in the published code its parameter never
reaches the optimiser, so tau stays 0.02).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self, get_args

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field, model_validator
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.temperature import TemperatureConfig
from multimodal.objectives.tools.gather import Rows, same_ids, two_way, unit_pair
from multimodal.objectives.tools.tiled import Targets
from multimodal.objectives.views import TEXT, Term, Views, total

Pair = tuple[str, str, float]
FalseNegatives = Literal["keep", "mask_group", "mask_text", "multi_positive"]


@OBJECTIVES.register("more")
class MoreConfig(TemperatureConfig):
    """Anchor-contrastive objective of MoRE, a reconstruction; see ``more.py``.

    anchor: the view that every other one is compared with, weight 1 each. pairs: instead, which
    views are compared, as [anchor, other, weight]; views that a run has not are an error.
    temperature: by which cosines are divided. learn_temperature: it is trained from there, between
    0.01 and 0.5. symmetric: the other view chooses among anchors too; else only anchors choose.
    false_negatives: keep (all other cases are negatives); mask_group (those of the same patient,
    speaker or source are none), mask_text (those of equal text are none), multi_positive (those of
    equal text are positives); None: mask_group. tile: as in other objectives.
    """

    masks: ClassVar[bool] = True
    sparing: ClassVar[str] = "false_negatives: mask_text or false_negatives: multi_positive"

    anchor: str = TEXT
    pairs: tuple[tuple[str, str, Annotated[float, Field(ge=0)]], ...] | None = Field(
        default=None, min_length=1
    )
    temperature: float = Field(default=0.02, gt=0, le=100)
    symmetric: bool = True
    false_negatives: FalseNegatives | None = None
    tile: int | None = Field(default=None, ge=1)

    @property
    def spares_equal_texts(self) -> bool:
        return self.false_negatives in ("mask_text", "multi_positive")

    @property
    def row_name(self) -> str:
        return f"{self.registered_name} (reconstruction){self.temperature_words}"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.pairs is not None and self.anchor != TEXT:
            raise ValueError("anchor is of all pairs with it; give either anchor or pairs")
        for a, b, _ in self.pairs or ():
            if a == b:
                raise ValueError(f"pairs: {a!r} is compared with itself")
        return self

    def pairs_of(self, names: Sequence[str]) -> tuple[Pair, ...]:
        """Which of the named views are compared."""
        if self.pairs is not None:
            return self.pairs
        return tuple((self.anchor, name, 1.0) for name in names if name != self.anchor)

    def check_views(self, names: Sequence[str]) -> None:
        _check_pairs(self.pairs_of(names), names)

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        """ValueError: a pair names a view that is not there."""
        return anchor_contrastive(
            views.embeddings,
            views.scale,
            pairs=self.pairs_of(tuple(views.embeddings)),
            symmetric=self.symmetric,
            false_negatives=self.false_negatives,
            groups=views.groups,
            texts=views.ids,
            present=views.present,
            gather=gather,
            tile=self.tile,
        )


def anchor_contrastive(
    views: Mapping[str, Tensor],
    scale: Float[Tensor, "..."],
    *,
    pairs: Sequence[Pair],
    symmetric: bool = True,
    false_negatives: FalseNegatives | None = None,
    groups: Int[Tensor, " batch"] | None = None,
    texts: Int[Tensor, " batch"] | None = None,
    present: Mapping[str, Tensor] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """The sum of the module's docstring; computed in float32 (float64 stays), also under autocast.

    views: name -> (N, D), rows of any length. scale: scalar tensor > 0, 1 / tau. pairs: (anchor,
    other, weight). symmetric: else a pair's loss is NCE(anchor -> other) alone. groups, texts: (N,)
    integers, equal where patients, or texts, are. false_negatives: as in ``MoreConfig``; None:
    mask_group where there are groups, else keep. present: name -> (N,) bool; a case that lacks a
    view is neither anchor nor negative in that view's pairs, which are means over the others; a
    pair without any is 0. gather, tile: as in ``contrastive.py``.

    terms, by ``a-b/term`` where there are several pairs: both directions, their accuracies (own
    case first; ties are wrong), live_negatives (mean number of a case's candidates that are no
    positives: those of all processes), positives (mean |P_i|, of multi_positive), scale. Of this
    process's cases; those of a pair without any are left out.
    ValueError: a view that is not there, no ids for what is masked by them, a shape that is wrong.
    """
    if false_negatives is None:
        false_negatives = "keep" if groups is None else "mask_group"
    ids = _ids(false_negatives, groups, texts)
    _check_pairs(pairs, tuple(views))
    masks, terms = present or {}, []
    for a, b, weight in pairs:
        both = [masks[name] for name in (a, b) if name in masks]
        mask = torch.stack(both).all(0) if both else None
        loss = _of_pair(
            views[a],
            views[b],
            scale,
            ids=ids,
            several=false_negatives == "multi_positive",
            symmetric=symmetric,
            present=mask,
            gather=gather,
            tile=tile,
        )
        terms.append(Term(f"{a}-{b}", weight, loss, mask))
    return total(terms)


def _of_pair(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    ids: Tensor | None,
    several: bool,
    symmetric: bool,
    present: Shaped[Tensor, "..."] | None,
    gather: bool,
    tile: int | None,
) -> Loss:
    """several: cases of equal id are positives; else they are no candidates."""
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    targets = Targets(rows.first)
    if ids is not None and several:
        same = same_ids(ids, a, rows, name="texts", own=True)
        targets = Targets(rows.first, weights=lambda r, c: same(r, c).to(a.dtype))
    elif ids is not None:
        excluded = same_ids(ids, a, rows, name="ids", own=False)
        targets = Targets(rows.first, excluded=excluded)
    forth, back = two_way(a, b, scale, (targets, targets), rows, tile=tile)
    value = rows.mean(forth.losses)
    terms = {
        "a_to_b": rows.own_mean(forth.losses.detach()),
        "accuracy_a_to_b": rows.own_mean(forth.right.float()),
        "live_negatives": rows.own_mean(_negatives(a, ids, rows)),
        "scale": scale.detach(),
    }
    if symmetric:
        value = (value + rows.mean(back.losses)) / 2
        terms["b_to_a"] = rows.own_mean(back.losses.detach())
        terms["accuracy_b_to_a"] = rows.own_mean(back.right.float())
    if several:
        terms["positives"] = rows.own_mean(forth.mass)
    return Loss(value, terms)


def _negatives(a: Tensor, ids: Tensor | None, rows: Rows) -> Tensor:
    """(own,) numbers of candidates that are no positives, without the (N, N) matrix."""
    if ids is None:
        return a.new_full((len(rows.own(a)),), rows.count - 1.0)
    everyone, own = rows.everyone(ids, grad=False), rows.own(ids)
    known, counts = everyone.unique(return_counts=True)
    same = counts[torch.searchsorted(known, own)] if len(own) else own
    return (rows.count - same).to(a.dtype)


def _ids(what: str, groups: Tensor | None, texts: Tensor | None) -> Tensor | None:
    if what not in get_args(FalseNegatives):
        valid = ", ".join(get_args(FalseNegatives))
        raise ValueError(f"false_negatives: {what!r}; choose one of {valid}.")
    if what == "keep":
        return None
    name, ids = ("groups", groups) if what == "mask_group" else ("texts", texts)
    if ids is None:
        raise ValueError(f"false_negatives={what}: it goes by {name}, and none are given.")
    return ids


def _check_pairs(pairs: Sequence[Pair], views: Sequence[str]) -> None:
    if not pairs:
        raise ValueError(f"pairs: none among the views {', '.join(views)}; name at least one.")
    for a, b, _ in pairs:
        for name in (a, b):
            if name not in views:
                raise ValueError(f"pairs: no view {name!r}; there are {', '.join(views)}.")
