"""Rows that choose among columns of which several are right: mean losses of rows, and what is told.

A row loss is a function (scores, positives, candidates), (R, M) each -> (R,) losses, 0 in a row
without a positive; such rows are left out of the mean.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.tools.gather import (
    Rows,
    first_row,
    mean_over_processes,
    same_ids,
    scaled,
    unit,
    unit_pair,
)
from multimodal.objectives.tools.recomputed import by_rows
from multimodal.objectives.tools.tiled import own_precision

RowLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def of_labels(
    row_loss: RowLoss,
    signals: Tensor,
    texts: Tensor,
    scale: Tensor,
    *,
    positives: Tensor,
    candidates: Tensor | None = None,
    present: Tensor | None = None,
    tile: int | None = None,
) -> Loss:
    """Signals (N, D) choose among texts (M, D), of which ``positives`` (N, M) bool are right and
    those outside ``candidates`` (N, M) bool do not count. All else as in ``contrastive.py``.
    """
    rows = Rows(signals, present, gather=False)
    a, b = unit(rows.clean(signals), "signals"), unit(texts, "texts")
    shape = len(a), len(b)
    candidates = torch.ones_like(positives, dtype=torch.bool) if candidates is None else candidates
    for name, mask in (("positives", positives), ("candidates", candidates)):
        if mask.shape != shape or mask.dtype != torch.bool:
            raise ValueError(
                f"{name}: shape {tuple(mask.shape)} of {mask.dtype}; give a bool of each of "
                f"{shape[0]} signals and {shape[1]} texts."
            )
    own, known = rows.own(positives & candidates), rows.own(candidates)
    b = b.to(a.dtype)
    found = _scored(row_loss, rows.own(a), b, scale, lambda r: own[r], lambda r: known[r], tile)
    value, terms = _mean(found, rows)
    return Loss(value, {"a_to_b": value.detach(), **terms, "scale": scale.detach()})


def of_pairs(
    row_loss: RowLoss,
    signals: Tensor,
    texts: Tensor,
    scale: Tensor,
    *,
    ids: Tensor | None = None,
    both_ways: bool = False,
    present: Tensor | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Signals and texts, (N, D) both, go together row by row; texts of equal ``ids`` (N,) are right
    too. both_ways: the mean with texts that choose among signals.
    """
    rows = Rows(signals, present, gather=gather)
    a, b = unit_pair(rows.clean(signals), rows.clean(texts), names=("signals", "texts"))
    if ids is None:  # numbers of the rows among those of all processes
        ids = torch.arange(len(a), device=a.device) + first_row(a, gather)
    same = same_ids(ids, a, rows, name="ids", own=True)
    every = slice(0, rows.count)

    def positive(r: slice) -> Tensor:
        return same(r, every)

    def all_of_them(r: slice) -> Tensor:
        return torch.ones_like(same(r, every))

    found = _scored(row_loss, rows.own(a), rows.everyone(b), scale, positive, all_of_them, tile)
    value, terms = _mean(found, rows)
    terms = {"a_to_b": value.detach(), **terms}
    if both_ways:
        back = _scored(row_loss, rows.own(b), rows.everyone(a), scale, positive, all_of_them, tile)
        other = _mean(back, rows)[0]
        value, terms = (value + other) / 2, {**terms, "b_to_a": other.detach()}
    return Loss(value, {**terms, "scale": scale.detach()})


def _scored(
    row_loss: RowLoss,
    rows: Tensor,
    columns: Tensor,
    scale: Tensor,
    positives: Callable[[slice], Tensor],
    candidates: Callable[[slice], Tensor],
    tile: int | None,
) -> Tensor:
    """(R, 4): loss, whether a positive is first, numbers of positives and of candidates."""
    factors = scaled(rows, columns, scale)

    def block(r: slice) -> Tensor:
        scores, own, there = factors[0][r] @ factors[1].T, positives(r), candidates(r)
        lowest = torch.finfo(scores.dtype).min
        best, rival = (
            scores.detach().masked_fill(~mask, lowest).amax(1) for mask in (own, there & ~own)
        )
        said = (best > rival, own.sum(1), there.sum(1))
        return torch.stack([row_loss(scores, own, there), *(x.to(scores.dtype) for x in said)], 1)

    with own_precision(rows):
        if not len(columns):  # nobody takes part
            return rows.sum(1, keepdim=True).expand(-1, 4)
        return by_rows(block, len(rows), tile)


def _mean(found: Tensor, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
    """Over the rows that have a positive."""
    with_some = found[:, 2].detach() > 0
    count = with_some.sum().to(found.dtype)
    own, least = count.clamp(min=1), mean_over_processes(count) if rows.gather else count
    value = found[:, 0].sum() / least.masked_fill(least == 0, 1.0)
    found = found.detach()
    terms = {
        "accuracy": (found[:, 1] * with_some).sum() / own,
        "positives": rows.own_mean(found[:, 2]),
        "candidates": rows.own_mean(found[:, 3]),
    }
    return value, terms
