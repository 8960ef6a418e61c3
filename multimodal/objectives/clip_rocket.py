"""BarLIP, InfoNCE with redundancy reduction, and the other losses of a tuned CLIP with views.

Fini et al., "Improved baselines for vision-language pre-training", 2023, arXiv:2305.08675; the
equations are those of its authors' code. A signal and its text have one pair of views as they are
and A pairs of augmented, "local" ones, in a space of their own::

    L_local = mean over all A^2 (signal, text) of InfoNCE with smoothed labels
    L       = (L_global + A L_local) / (1 + A)                     its setting "sum": twice that
    BarLIP  = sum_i (C_ii - 1)^2 + 5e-3 sum_{i != j} C_ij^2,  C = 1/N sum_n x_n y_n^T standardised
    SiamLIP = 2 - 2 cos(p_x, sg(v_y)), and with x and y exchanged
    SwALIP  = cross-entropy of one augmentation's similarities with Sinkhorn's targets of the other

Each term is added to L: 0.025 BarLIP, 1 SiamLIP, 0.2 SwALIP (then without smoothing). BarLIP and
SiamLIP are means over the global pair and all A^2 local ones (``over_views``). BYOLIP is SiamLIP
whose v are of a network with averaged weights (0.99). The paper's finding is that the tuned recipe
leaves little for these terms to add.

With A = 0, L is ``clip``. Here are the functions; ``clip_rocket_settings.py`` has the objectives by
name, and ``clip_rocket_heads.py`` what they train beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.tools.gather import Rows, unit_pair
from multimodal.objectives.tools.sinkhorn import sinkhorn
from multimodal.objectives.tools.tiled import own_precision

VARIANCE_FLOOR = 1e-5  # that of batch normalisation
View = TypeVar("View")
Pair = tuple[Float[Tensor, "..."], Float[Tensor, "..."]]


def clip_rocket(
    first: Pair,
    scale: Float[Tensor, "..."],
    local: Sequence[Pair],
    local_scale: Float[Tensor, "..."],
    *,
    smoothing: float = 0.1,
    total: Literal["mean", "sum"] = "mean",
    ids: Int[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """``L`` of the module's docstring: InfoNCE of a pair and of A pairs of augmented views.

    first: signals and texts, both (N, D). local: A such pairs, (N, D2) each, of which all A^2
    combinations are compared; none: CLIP. scale, local_scale: 1 / temperature of each space.
    smoothing: of labels, local only. total: "sum" doubles the value. ids, present, gather, tile: as
    in ``info_nce``. terms: global, local (without if there are none), and those of ``info_nce`` of
    the global pair. ValueError: an option out of range, shapes that do not fit.
    """
    if total not in ("mean", "sum"):
        raise ValueError(f"total: {total!r}; choose one of mean, sum.")
    options = {"ids": ids, "present": present, "gather": gather, "tile": tile}
    whole = info_nce(*first, scale, **options)
    value, terms = whole.value, {**whole.terms, "global": whole.value.detach()}
    if local:
        found = [
            info_nce(a, b, local_scale, smoothing=smoothing, **options).value
            for a, _ in local
            for _, b in local
        ]
        near = torch.stack(found).mean()
        value = (value + len(local) * near) / (1 + len(local))
        terms["local"] = near.detach()
    return Loss(value * 2 if total == "sum" else value, terms)


def over_views(
    loss: Callable[[View, View], Loss], first: tuple[View, View], local: Sequence[tuple[View, View]]
) -> Tensor:
    """The mean of a loss over the global pair and all A^2 combinations of A local ones."""
    combined = [first, *((a, b) for a, _ in local for _, b in local)]
    return torch.stack([loss(a, b).value for a, b in combined]).mean()


def barlip(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    *,
    off_diagonal: float = 5e-3,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """``sum_i (C_ii - 1)^2 + off_diagonal sum_{i != j} C_ij^2``, without its weight.

    a, b: (N, D), pairs by row. C is the (D, D) cross-correlation of their channels over the batch,
    of all processes with ``gather``. Channels are standardised (population variance + 1e-5), which
    is what the published heads do while the last batch normalisation's learned scale is 1; so it
    is 0 only if C is the identity. Not changed by scaling or shifting a channel, but by a rotation.
    No (N, N) matrix, hence no tiles; of one pair, and of a constant channel, C is 0. 0 without any
    pair. terms: correlation (mean C_ii), redundancy (mean C_ij^2, i != j).
    """
    if a.shape != b.shape or a.dim() != 2:
        raise ValueError(
            f"a: shape {tuple(a.shape)}, b: shape {tuple(b.shape)}; give the embeddings of N "
            "pairs, both (N, D)."
        )
    rows = Rows(a, present, gather=gather)
    sides = [rows.everyone(_wide(rows.clean(x))) for x in (a, b)]
    width = a.shape[1]
    if rows.count == 0:
        return Loss((sides[0].sum() + sides[1].sum()) * 0.0, {})
    x, y = (_standardised(side) for side in sides)
    with own_precision(x):
        correlation = x.T @ y.to(x.dtype) / rows.count
    own = correlation.diagonal()
    others = correlation.square().sum() - own.square().sum()
    value = (own - 1).square().sum() + off_diagonal * others
    terms = {
        "correlation": own.detach().mean(),
        "redundancy": others.detach() / max(width * (width - 1), 1),
    }
    return Loss(value, terms)


def siamlip(
    a: Pair,
    b: Pair,
    *,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Loss:
    """``[2 - 2 cos(p_a, sg(v_b)) + 2 - 2 cos(p_b, sg(v_a))] / 2``, a mean over pairs; in [0, 4].

    a, b: each the predictions p and the targets v of a side, (N, D); targets get no gradient. With
    targets of a network whose weights are a running mean of the trained one's it is BYOLIP.
    Without predictors (p = v) it is an attraction only, which collapse satisfies. terms: a_to_b,
    b_to_a. gather: means are over the rows of all processes; rows do not meet, so without tiles.
    """
    values, rows = [], Rows(a[0], present, gather=gather)
    for predicted, target in ((a[0], b[1]), (b[0], a[1])):
        p, v = unit_pair(
            rows.clean(predicted), rows.clean(target.detach()), names=("predictions", "targets")
        )
        values.append(2 - 2 * (rows.own(p) * rows.own(v)).sum(1))
    terms = {
        key: rows.own_mean(found.detach())
        for key, found in zip(("a_to_b", "b_to_a"), values, strict=True)
    }
    return Loss((rows.mean(values[0]) + rows.mean(values[1])) / 2, terms)


def swalip(
    local: Sequence[Pair],
    scale: Float[Tensor, "..."],
    *,
    epsilon: float = 0.05,
    rounds: int = 3,
    gather: bool = False,
) -> Loss:
    """Swapped assignments across modalities, without its weight.

    ``mean over k, l in {1, 2} of 1/2 [CE(scale s(a_k, b_l), Q(s(a_k', b_l'))) + the same from b to
    a]``, k', l' the other augmentation, s the cosines, Q Sinkhorn's assignments of e^(s / epsilon).

    local: exactly two augmented pairs, (N, D) each; targets get no gradient. Rows of a target sum
    to 1, columns nearly so after 3 rounds. The balance is over the batch (of all processes with
    ``gather``), so its (N, N) matrices are held and there are no tiles. terms: target_entropy (mean
    over the targets' rows, nats). ValueError: other than two pairs, epsilon not above 0.
    """
    if len(local) != 2:
        raise ValueError(f"local: {len(local)} pairs of augmented views; give exactly 2.")
    if not 0 < epsilon < float("inf"):
        raise ValueError(f"epsilon: {epsilon}; give a number above 0.")
    pairs = [unit_pair(a, b) for a, b in local]
    rows = Rows(pairs[0][0], None, gather=gather)
    directions = ([x for x, _ in pairs], [y for _, y in pairs])
    losses, entropies = [], []
    for ones, others in (directions, directions[::-1]):
        columns = [rows.everyone(x) for x in others]
        with own_precision(ones[0]):
            cosines = [[x @ y.T for y in columns] for x in ones]
        targets = [
            [sinkhorn(s / epsilon, rounds=rounds, gather=gather) for s in line] for line in cosines
        ]
        for k in range(2):
            for n in range(2):
                target = targets[1 - k][1 - n]
                log_p = (scale.to(target.dtype) * cosines[k][n]).log_softmax(1)
                losses.append(-(target * log_p).sum(1).mean())
                entropies.append(torch.special.entr(target).sum(1).mean())
    return Loss(torch.stack(losses).mean(), {"target_entropy": torch.stack(entropies).mean()})


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred * (centred.square().mean(0) + VARIANCE_FLOOR).rsqrt()
