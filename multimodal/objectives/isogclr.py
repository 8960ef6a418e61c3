"""iSogCLR: a temperature for each sample and side, found while training.

Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
Automatic Temperature Individualization", ICML 2023 (arXiv 2305.11965, of SogCLR: 2202.12387). With
cosines s, h_ij = s_ij - s_ii over the negatives j of i, of each side by itself::

    F_i(tau_i) = tau_i log E_j exp(h_ij / tau_i) + rho tau_i,       tau_i in [tau_min, tau_max]
    g_i   <- (1 - gamma) g_i + gamma mean_j exp(h_ij / tau_i)       kept of each sample
    value  = mean_i r_i tau_i log mean_j exp(h_ij / tau_i),   r_i = mean_j exp(h_ij / tau_i) / g_i
    d_i    = log g_i + rho - 1/n sum_j (exp(h_ij / tau_i) / g_i) h_ij / tau_i,  within [-5, 5]
    m_i   <- (1 - beta) m_i + beta d_i;   tau_i <- tau_i - eta m_i, clipped

r and tau have no gradient, so the gradient of ``value`` is that of the authors' surrogate
``mean_i 1/n sum_j sg(exp(h_ij / tau_i) / g_i) h_ij``. It has no factor 1 / tau: the learning rate
that suits it is another than that of InfoNCE. The mean of both sides is taken; published is their
sum (``reduction``). eta = 0 is SogCLR.

Where we deviate from the authors' code: log g is kept, which needs no running maximum (theirs never
falls, so that later weights underflow); a first visit sets it (theirs begins at 0 and weighs it by
1 / gamma); the own pair and other rows of the same sample are no negatives (theirs keeps the own
one). tau is moved towards a spread of rho nats of its negatives; for gamma = 1 d_i = rho - KL(p_i
|| uniform) with KL <= log n, so any rho above log(n) drives every tau to tau_min. Published is rho
6 for batches of thousands; ours begins at 1, and a rho above log(n) warns.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field, model_validator
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.gather import Rows, gather_rows, same_ids, unit_pair
from multimodal.objectives.tools.recomputed import by_rows
from multimodal.objectives.tools.samples import SampleTables
from multimodal.objectives.tools.tiled import own_precision

STEEPEST = 5.0  # of the gradient of a temperature
KEPT = 6  # log g, tau and m of the signal, then of the text


class Pace(NamedTuple):
    """gamma: of g, in (0, 1]. rho, eta, beta: of the temperatures, which begin at ``tau`` and stay
    in [tau_min, tau_max]. All as in the module's docstring.
    """

    gamma: float = 0.8
    rho: float = 1.0
    eta: float = 0.03
    beta: float = 0.9
    tau: float = 0.01
    tau_min: float = 0.005
    tau_max: float = 1.0


@OBJECTIVES.register("isogclr")
class IsogclrConfig(AlignmentConfig):
    """Contrast with a temperature for each sample and side, kept between visits; see
    ``isogclr.py``. gamma: how much of a sample's estimate each visit renews. tau: where
    temperatures begin, tau_min, tau_max: where they stay; eta, beta: step and momentum of theirs;
    rho: the spread in nats that they tend to. reduction: of the two sides, mean, or sum as
    published. The scale of the cosines is not used in it and not learned; it makes a learner's
    probabilities.
    """

    masks: ClassVar[bool] = True

    learn_scale: bool = False
    gamma: float = Field(default=0.8, gt=0, le=1)
    rho: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    tau: float = Field(default=0.01, gt=0)
    tau_min: float = Field(default=0.005, gt=0)
    tau_max: float = Field(default=1.0, gt=0, le=100)
    eta: float = Field(default=0.03, ge=0, allow_inf_nan=False)
    beta: float = Field(default=0.9, gt=0, le=1)
    reduction: Literal["mean", "sum"] = "mean"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.learn_scale:
            raise ValueError("learn_scale: temperatures are found by themselves; leave it out")
        if not self.tau_min <= self.tau <= self.tau_max:
            raise ValueError(f"tau={self.tau} is not in [{self.tau_min}, {self.tau_max}]")
        return self

    @property
    def pace(self) -> Pace:
        return Pace(**{name: getattr(self, name) for name in Pace._fields})

    @property
    def row_name(self) -> str:
        fields = type(self).model_fields
        other = [
            f", {name}={getattr(self, name):g}"
            for name in Pace._fields
            if getattr(self, name) != fields[name].default
        ]
        return f"{self.registered_name}{''.join(other)}"

    @property
    def named(self) -> tuple[str, ...]:
        return Pace._fields

    def tables(self) -> SampleTables:
        return SampleTables(KEPT)

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        """Renews what is kept. ValueError: nothing to keep it in, or no numbers of the samples."""
        tables, numbers = pairs.tables, pairs.numbers
        if tables is None or numbers is None:
            raise ValueError(
                f"objective {self.registered_name!r} keeps numbers of each sample: give "
                "Views.tables (of its config) and Views.numbers."
            )
        loss, kept = isogclr(
            pairs.signals,
            pairs.texts,
            tables.read(pairs.name, numbers),
            numbers,
            pace=self.pace,
            reduction=self.reduction,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )
        visited = ~kept[:, 0].isnan()
        if pairs.present is not None:
            visited &= pairs.present
        if gather:  # every process keeps the same tables
            numbers, kept, visited = (gather_rows(x, grad=False) for x in (numbers, kept, visited))
        tables.write(pairs.name, numbers[visited], kept[visited])
        return loss


def isogclr(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    kept: Float[Tensor, "..."],
    numbers: Int[Tensor, "..."],
    *,
    pace: Pace | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    ids: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> tuple[Loss, Float[Tensor, "batch 6"]]:
    """The loss of the module's docstring, and what to keep after this visit.

    a, b, present, gather: as in ``contrastive.py``; the loss may be below 0, and is 0 without
    negatives. kept: (N, 6) log g, tau and m of side a, then of b, NaN of samples that were never
    visited; so comes what is returned, unchanged where a row takes no part or has no negatives.
    numbers: (N,) of the samples; equal ones are no negatives of each other, and so are equal
    ``ids``. tile: rows at a time. In float32 (float64 stays), also under autocast.
    terms: a_to_b, b_to_a (value of each side), accuracy_a_to_b, accuracy_b_to_a (own first), tau_a,
    tau_b (means, after the step), at_floor_a, at_floor_b (shares at tau_min), weight (mean r).
    ValueError: what does not fit. Warns if rho is above the logarithm of the number of negatives.
    """
    pace = pace or Pace()
    rows = Rows(a, present, gather=gather)
    a, b = unit_pair(rows.clean(a), rows.clean(b))
    if kept.shape != (len(a), KEPT):
        raise ValueError(f"kept: shape {tuple(kept.shape)}; give ({len(a)}, {KEPT}).")
    same = [same_ids(numbers, a, rows, name="numbers", own=True)]
    if ids is not None:
        same.append(same_ids(ids, a, rows, name="ids", own=True))
    every = slice(0, rows.count)

    def excluded(r: slice) -> Tensor:
        return torch.stack([of(r, every) for of in same]).any(0)

    if rows.count > 2 and pace.eta and pace.rho > math.log(rows.count - 1):
        warnings.warn(
            f"isogclr: rho={pace.rho:g} is above log({rows.count - 1}) = "
            f"{math.log(rows.count - 1):.2f}, the most that {rows.count - 1} negatives can be "
            "spread: temperatures fall to tau_min; lower rho, or take larger batches.",
            stacklevel=2,
        )
    cosines, state = (a * b).sum(1), rows.own(kept.detach().to(a.dtype))
    sides = []
    for x, y, mine in ((a, b, state[:, :3]), (b, a, state[:, 3:])):
        part = rows.own(x), rows.everyone(y), rows.own(cosines)
        sides.append(_side(*part, mine, excluded, pace, tile))
    value = torch.stack([rows.mean(side.losses) for side in sides])
    new = torch.cat([side.kept for side in sides], 1)
    out = kept.detach().to(a.dtype).clone()
    if present is None:
        out = new
    else:
        out[present] = new
    return Loss(
        value.mean() if reduction == "mean" else value.sum(), _terms(sides, rows, pace)
    ), out


class Side(NamedTuple):
    """Of each row that takes part. losses: (R,); kept: (R, 3); weight: (R,) r; right: (R,)."""

    losses: Tensor
    kept: Tensor
    weight: Tensor
    right: Tensor


def _side(
    rows: Tensor,
    columns: Tensor,
    own: Tensor,
    kept: Tensor,
    excluded: Callable[[slice], Tensor],
    pace: Pace,
    tile: int | None,
) -> Side:
    log_g, tau, momentum = kept.unbind(1)
    new = log_g.isnan()
    tau, momentum = tau.masked_fill(new, pace.tau), momentum.masked_fill(new, 0.0)

    def block(r: slice) -> Tensor:
        """(r, 4): log-sum-exp of h / tau, mean h under its softmax, negatives, own one first."""
        out = excluded(r)
        h = rows[r] @ columns.T - own[r, None]
        x = (h / tau[r, None]).masked_fill(out, torch.finfo(h.dtype).min)
        with torch.no_grad():
            mean = (x.softmax(1) * h).masked_fill(out, 0.0).sum(1)
            right = (out | (h < 0)).all(1)
        said = [v.to(h.dtype) for v in (mean, (~out).sum(1), right)]
        return torch.stack([x.logsumexp(1), *said], 1)

    with own_precision(rows):
        sums, mean, number, right = by_rows(block, len(rows), tile).unbind(1)
    some = number.detach() > 0
    ell = torch.where(some, sums - number.detach().clamp(min=1).log(), 0.0)
    with torch.no_grad():
        past = math.log1p(-pace.gamma) if pace.gamma < 1 else -math.inf
        moved = torch.logaddexp(past + log_g, math.log(pace.gamma) + ell)
        log_g_new = torch.where(new, ell, moved)
        weight = (ell - log_g_new).exp()
        slope = (log_g_new + pace.rho - weight * mean / tau).clamp(-STEEPEST, STEEPEST)
        step = (1 - pace.beta) * momentum + pace.beta * slope
        warmer = (tau - pace.eta * step).clamp(pace.tau_min, pace.tau_max)
        after = torch.stack([log_g_new, warmer, step], 1)
        after = torch.where(some[:, None], after, kept)
    return Side(weight * tau * ell, after, weight, right.detach())


@torch.no_grad()
def _terms(sides: list[Side], rows: Rows, pace: Pace) -> dict[str, Tensor]:
    terms = {}
    for side, name, way in zip(sides, "ab", ("a_to_b", "b_to_a"), strict=True):
        tau = side.kept[:, 1].nan_to_num(pace.tau)
        terms[way] = rows.own_mean(side.losses.detach())
        terms[f"accuracy_{way}"] = rows.own_mean(side.right)
        terms[f"tau_{name}"] = rows.own_mean(tau)
        terms[f"at_floor_{name}"] = rows.own_mean((tau <= pace.tau_min).to(tau.dtype))
    terms["weight"] = rows.own_mean(torch.stack([side.weight for side in sides]).mean(0))
    return terms
