"""SepCLR: what the diseased share with the healthy, and what is theirs alone, in two heads.

Louiset et al., "Separating common from salient patterns with Contrastive Representation Learning",
ICLR 2024; equations of its authors' code. A sample is of the background (healthy) or a target
(diseased) and has two views, each with a common part c, of length 1, and a salient part s, of any;
s' is s of targets and 0 of the background. K(a, b) = exp(-||a - b||^2 / (2 tau)), and::

    align(a, b) = mean ||a - b||^2 / (2 tau);    unif(a) = log mean_{i != j} K(a_i, a_j)
    common  = align(c1, c2) + unif(c1) + unif(c2)
    salient = align(s1, s2) of targets alone + unif(s'1) + unif(s'2)
    R       = mean over views of align(0, s) of the background
    J       = mean_i log mean_j K(c_i, c_j) K(s'_i, s'_j), j = i included; mean over views
    L       = common + 1 salient + 10 R + 10 J

Little mutual information of c and s, H(c) + H(s) - H(c, s), means a large H(c, s), which -J
estimates: uniformity raises the other two already. It needs two augmented views, two heads and
who is healthy, which no run of ours gives an objective, so it is a function and none by name.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.tools.gather import Rows, unit_pair
from multimodal.objectives.tools.kernels import log_sums, pooled

TEMPERATURE = 0.5
Views = tuple[Float[Tensor, "..."], Float[Tensor, "..."]]


def sepclr(
    common: Views,
    salient: Views,
    target: Bool[Tensor, " batch"],
    *,
    temperature: float = TEMPERATURE,
    salient_weight: float = 1.0,
    background: float = 10.0,
    joint: float = 10.0,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """``L`` of the module's docstring; computed in float32 (float64 stays), also under autocast.

    common: two views (N, D) of any length, scaled to 1. salient: two views (N, D2), not scaled.
    target: (N,) bool, False: background. salient_weight, background, joint: the weights of salient,
    R and J. present, gather, tile: as in ``contrastive.py``; with ``gather``, unif is of the whole
    batch in every process. A term without samples is 0: R without background, salient alignment
    without targets, unif of one row.

    terms: align_common, unif_common, align_salient, unif_salient, background, joint, each a mean
    over the two views and without its weight; common is align_common + 2 unif_common.
    ValueError: shapes that do not fit, a temperature that is not above 0.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: {temperature}; give a number above 0.")
    rows = Rows(common[0], present, gather=gather)
    c = unit_pair(rows.clean(common[0]), rows.clean(common[1]), names=("common 1", "common 2"))
    s = _salient(salient, len(target), c, rows)
    here = torch.ones_like(target) if present is None else present
    of_target = Rows(s[0], target & here, gather=gather)
    of_background = Rows(s[0], ~target & here, gather=gather)
    found = [_of_view(c[k], s[k], target, rows, temperature, tile) for k in range(2)]
    unif_c, unif_s, joined = (sum_of(x) / 2 for x in zip(*found, strict=True))
    near_c = rows.mean(_squared(rows.own(c[0] - c[1]), temperature))
    near_s = of_target.mean(_squared(of_target.own(s[0] - s[1]), temperature))
    nothing = [of_background.mean(_squared(of_background.own(x), temperature)) for x in s]
    zero = sum_of(nothing) / 2
    value = near_c + 2 * unif_c + salient_weight * (near_s + 2 * unif_s)
    value = value + background * zero + joint * joined
    terms = {
        "align_common": near_c,
        "unif_common": unif_c,
        "align_salient": near_s,
        "unif_salient": unif_s,
        "background": zero,
        "joint": joined,
    }
    return Loss(value, {name: term.detach() for name, term in terms.items()})


def supervised_alignment(
    salient: Float[Tensor, "..."],
    attribute: Shaped[Tensor, "..."],
    *,
    attribute_temperature: float = 0.025,
) -> Float[Tensor, ""]:
    """``mean_{i != j} exp(-(y_i - y_j)^2 / (2 tau_y)) (s_i - s_j)^2``: one salient number of each
    sample, alike where an attribute y of it is; what aligns views otherwise. salient, attribute:
    (N,). Holds (N, N) numbers. 0 of fewer than two samples.
    """
    if salient.dim() != 1 or salient.shape != attribute.shape:
        raise ValueError(
            f"salient: shape {tuple(salient.shape)}, attribute: shape {tuple(attribute.shape)}; "
            "give one number of each of N samples, both (N,)."
        )
    s, y = (x if x.dtype == torch.float64 else x.float() for x in (salient, attribute))
    weights = (-(y[:, None] - y).square() / (2 * attribute_temperature)).exp()
    count = max(len(s) * (len(s) - 1), 1)
    return (weights * (s[:, None] - s).square()).sum() / count


def _salient(salient: Views, count: int, c: tuple[Tensor, Tensor], rows: Rows) -> list[Tensor]:
    for number, x in enumerate(salient):
        if x.dim() != 2 or len(x) != len(c[0]) or x.shape != salient[0].shape:
            raise ValueError(
                f"salient {number + 1}: shape {tuple(x.shape)}; give both views of the same "
                f"{len(c[0])} samples, (N, D)."
            )
    if count != len(c[0]):
        raise ValueError(f"target: {count} of {len(c[0])} samples; give a bool of each.")
    return [rows.clean(x).to(torch.promote_types(x.dtype, c[0].dtype)) for x in salient]


def _of_view(
    c: Tensor, s: Tensor, target: Tensor, rows: Rows, temperature: float, tile: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """unif(c), unif(s') and J."""
    own = s * target[:, None]
    unif = [_unif(x, rows, temperature, tile) for x in (c, own)]
    # A product of kernels is the kernel of both parts side by side.
    joint = torch.cat([c.to(own.dtype), own], 1)
    sums = log_sums(joint, rows, temperature=temperature, itself=True, tile=tile)
    return unif[0], unif[1], rows.mean(sums - math.log(max(rows.count, 1)))


def _unif(x: Tensor, rows: Rows, temperature: float, tile: int | None) -> Tensor:
    if rows.count < 2:
        return x.sum() * 0.0
    sums = log_sums(x, rows, temperature=temperature, itself=False, tile=tile)
    return pooled(sums, rows, len(x)) - math.log(rows.count * (rows.count - 1))


def _squared(difference: Tensor, temperature: float) -> Tensor:
    return difference.square().sum(1) / (2 * temperature)


def sum_of(tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum()
