"""DeGLA: contrast with rewritten captions, held close to what the model knew before.

Hu et al., "Decoupled Global-Local Alignment", ACM MM 2025, arXiv:2504.16801; equations of its
authors' code. Of item i a signal u_i, its caption v_i and k captions n_ij that are false of it, all
of length 1; a bar: a teacher's (a running mean of the student), without gradient; a: the learned
scale::

    CLIP   signals choose among all B + k B texts, texts among B signals
    IGC    = -log e^{a u_i.v_i} / ( e^{a u_i.v_i} + sum_j e^{a u_i.n_ij} )
    TGC    = -log e^{10 v_i.vbar_i} / ( e^{10 v_i.vbar_i} + sum_j e^{10 v_i.n_ij} )
    KD     = mean over signals and texts, false ones too, of ||x - xbar||^2
    L      = CLIP + 0.1 IGC + 0.1 TGC + 7.68 KD

We deviate: the published KD is a sum with weight 0.005, which of B = 256 and k = 4 is 0.005 (2 + k)
B = 7.68 on our mean. The released TGC contrasts caption i with texts i, i + B, ..., which are other
items' but for a share of 1 / B; ours are its own, as the equation says. These are functions and no
objective by name: an objective has no teacher. KD alone is setting ``degla`` of text-aligned
learners; contrast with rewritten captions alone is ``compa_hard_negatives``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.tools.beside import Beside
from multimodal.objectives.tools.gather import Rows, scalar, scaled, unit_pair
from multimodal.objectives.tools.tiled import Block, Targets, choose


class Seen(NamedTuple):
    """Of N items, what one model makes of the signals (N, D), captions (N, D) and false captions
    (N, k, D); k may be 0.
    """

    signals: Tensor
    texts: Tensor
    negatives: Tensor


def degla(
    student: Seen,
    teacher: Seen,
    scale: Float[Tensor, "..."],
    *,
    image_weight: float = 0.1,
    text_weight: float = 0.1,
    distillation_weight: float = 7.68,
    text_scale: float = 10.0,
    allowed: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """``L`` of the module's docstring; computed in float32 (float64 stays), also under autocast.

    allowed: (N, k) bool, the false captions that are there; None: all. present, gather, tile: as in
    ``contrastive.py``. image_weight, text_weight, distillation_weight: of IGC, TGC and KD.
    terms: contrastive, igc, tgc, distillation, each without its weight; scale.
    ValueError: shapes that do not fit.
    """
    u, v, n = student
    beside = {"allowed": allowed, "present": present, "gather": gather}
    losses = {
        "contrastive": clip_with_negatives(u, v, n, scale, tile=tile, **beside),
        "igc": own_contrast(u, v, n, scale, **beside),
        "tgc": own_contrast(v, teacher.texts.detach(), n, v.new_tensor(text_scale), **beside),
        "distillation": distillation(student, teacher, **beside),
    }
    weights = {
        "contrastive": 1.0,
        "igc": image_weight,
        "tgc": text_weight,
        "distillation": distillation_weight,
    }
    value = torch.stack([weights[name] * loss.value for name, loss in losses.items()]).sum()
    terms = {name: term for loss in losses.values() for name, term in loss.terms.items()}
    values = {name: loss.value.detach() for name, loss in losses.items()}
    return Loss(value, {**terms, **values, "scale": scale.detach()})


def clip_with_negatives(
    signals: Float[Tensor, "..."],
    texts: Float[Tensor, "..."],
    negatives: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    allowed: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """InfoNCE in which every signal chooses among all captions and everybody's false ones. Without
    any it is ``info_nce``. Arguments as in ``degla``. terms: a_to_b, b_to_a and their accuracies.
    """
    rows = Rows(signals, present, gather=gather)
    u, v = unit_pair(rows.clean(signals), rows.clean(texts), names=("signals", "texts"))
    beside = Beside(negatives, allowed, like=u, rows=rows, name="negatives")
    false, there = _everyone(negatives, allowed, rows, u)
    columns = torch.cat([rows.everyone(v), false])
    pairs, first = len(columns) - len(false), rows.first
    excluded = _absent(there, pairs) if beside.some else None
    own, others = rows.own(u), rows.everyone(u)
    forth = choose(*scaled(own, columns, scale), (Targets(first, excluded=excluded),), tile=tile)[0]
    back = choose(*scaled(rows.own(v), others, scale), (Targets(first),), tile=tile)[0]
    terms = {
        "a_to_b": rows.own_mean(forth.losses.detach()),
        "b_to_a": rows.own_mean(back.losses.detach()),
        "accuracy_a_to_b": rows.own_mean(forth.right.float()),
        "accuracy_b_to_a": rows.own_mean(back.right.float()),
    }
    return Loss((rows.mean(forth.losses) + rows.mean(back.losses)) / 2, terms)


def own_contrast(
    anchors: Float[Tensor, "..."],
    positives: Float[Tensor, "..."],
    negatives: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    allowed: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """``mean_i -log e^{a x_i.y_i} / ( e^{a x_i.y_i} + sum_j e^{a x_i.n_ij} )``: each anchor against
    the false captions of its own item. IGC: anchors are signals, positives their captions. TGC:
    anchors are captions, positives a teacher's embeddings of them. 0 without false captions. Items
    do not meet, so there is no (N, N) matrix and no tiles. No terms.
    """
    rows = Rows(anchors, present, gather=gather)
    x, y = unit_pair(rows.clean(anchors), rows.clean(positives), names=("anchors", "positives"))
    beside = Beside(negatives, allowed, like=x, rows=rows, name="negatives")
    mine, factor = rows.own(x), scalar(scale, "scale", x.dtype)
    own = factor * (mine * rows.own(y)).sum(1)
    cosines = beside.cosines(mine)[1]
    return Loss(rows.mean(beside.joined(own, factor * cosines) - own), {})


def distillation(
    student: Seen,
    teacher: Seen,
    *,
    allowed: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """The mean of ||x - xbar||^2 over all signals, captions and false captions that are there,
    lengths 1; in [0, 4]. No gradient reaches the teacher. No terms.
    """
    both = [
        torch.cat([_wide(x) for x in (s.signals[:, None], s.texts[:, None], s.negatives)], 1)
        for s in (student, teacher)
    ]  # (N, 2 + k, D)
    if both[0].shape != both[1].shape:
        raise ValueError(
            f"teacher: {tuple(both[1].shape)} vectors of signals and texts, and the student has "
            f"{tuple(both[0].shape)}; give both the same items."
        )
    there = torch.ones(both[0].shape[:2], dtype=torch.bool, device=both[0].device)
    if allowed is not None:
        there[:, 2:] = allowed
    if present is not None:
        there &= present[:, None]
    flat = [x.flatten(0, 1) for x in both]
    return close(flat[0], flat[1], present=there.flatten(), gather=gather)


def close(
    student: Float[Tensor, "..."],
    teacher: Float[Tensor, "..."],
    *,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """KD of any vectors (N, D) of both: the mean of ||x - xbar||^2, lengths 1; in [0, 4]. No
    gradient reaches the teacher. No terms.
    """
    every = Rows(student, present, gather=gather)
    pair = every.clean(student), every.clean(teacher.detach())
    x, y = unit_pair(*pair, names=("student", "teacher"))
    return Loss(every.mean((every.own(x) - every.own(y)).square().sum(1)), {})


def _everyone(
    negatives: Tensor, allowed: Tensor | None, rows: Rows, like: Tensor
) -> tuple[Tensor, Tensor]:
    """False captions of all items that take part, unit (M k, D), and which of them are there."""
    count, k = negatives.shape[:2]
    there = allowed if allowed is not None else torch.ones(count, k, dtype=torch.bool)
    x = rows.clean(negatives).masked_fill(~there.to(negatives.device)[..., None], 0)
    x = x.to(like.dtype)
    x = x * torch.linalg.vector_norm(x, dim=2, keepdim=True).clamp_min(1e-8).reciprocal()
    there = rows.everyone(there.to(x.device), grad=False)
    return rows.everyone(x).flatten(0, 1), there.flatten()


def _absent(there: Tensor, pairs: int) -> Block:
    """Blocks that are True where a column, behind the ``pairs`` captions, is not there."""
    absent = torch.cat([there.new_zeros(pairs), ~there])

    def block(r: slice, c: slice) -> Tensor:
        return absent[c].expand(r.stop - r.start, -1)

    return block


def _wide(x: Tensor) -> Tensor:
    """Autocast joins no float16 tensors where its own type is another."""
    return x if x.dtype == torch.float64 else x.float()
