"""Retrieval with one threshold for all queries: an ROC over the pooled scores of hard candidates.

After "Optimizing What Matters: AUC-Driven Learning for Robust Neural Retrieval", arXiv 2510.00137:
of each query its relevant items and the 500 others that score highest; all queries' scores are
pooled, and the area under their one ROC is the probability that a relevant item of any query scores
above an irrelevant one of any query. Recall at K cannot see what this sees: a query all of whose
scores are high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from multimodal.errors import UserError
from multimodal.evaluation.embeddings import Embeddings, check_width, unit_rows
from multimodal.evaluation.intervals import Intervals, estimates
from multimodal.evaluation.multi_label import resampled_auroc

HARDEST = 500
BLOCK = 1024
REPLICATES = 1000  # each passes over all pooled scores
NUMBERS_AT_ONCE = 2**21


@dataclass(frozen=True, eq=False)
class PooledAuc:
    """metrics: pooled_auc in [0, 1], ties counting half; num_queries, num_positives and
    num_negatives of the pool. intervals: (low, high) of 95 %: queries are sampled, each with its
    scores (of groups: all queries of one).
    """

    metrics: dict[str, float]
    intervals: Intervals


def pooled_auc(
    queries: Embeddings,
    items: Embeddings,
    relevant: Sequence[Sequence[int]],
    *,
    hardest: int = HARDEST,
    groups: Sequence[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    block: int = BLOCK,
) -> PooledAuc:
    """queries: (Q, D), items: (G, D); they score by their cosine. relevant: of each query the
    numbers of its items, one or more, not all. hardest: irrelevant items a query that are pooled,
    those that score highest. groups: of each query, sampled together. block: queries at a time.

    UserError: embeddings with NaN, numbers and widths that do not fit, a query without a relevant
    or without an irrelevant item.
    """
    rows, gallery = unit_rows(queries, of="query"), unit_rows(items, of="item")
    check_width(rows, gallery)
    if hardest < 1 or block < 1:
        raise UserError(f"hardest is {hardest} and block {block}; give at least 1 each.")
    own = _table(relevant, len(rows), len(gallery))
    scores, targets, owner = [], [], []
    for start in range(0, len(rows), block):
        here = slice(start, min(start + block, len(rows)))
        cosines = rows[here] @ gallery.T
        mine = torch.from_numpy(own[here])
        rest = cosines.masked_fill(mine, -torch.inf)
        most = min(hardest, rest.shape[1])
        hard = rest.topk(most, dim=1).values
        query = np.arange(here.start, here.stop)
        number, kept = mine.sum(1).numpy(), hard > -torch.inf
        scores += [cosines[mine].numpy(), hard[kept].numpy()]
        owner += [np.repeat(query, number), np.repeat(query, kept.sum(1).numpy())]
        targets += [np.ones(int(number.sum())), np.zeros(int(kept.sum()))]
    pool, truth, cells = (np.concatenate(part) for part in (scores, targets, owner))

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        at_once = max(1, NUMBERS_AT_ONCE // len(cells))
        found = [
            resampled_auroc(pool[:, None], truth[:, None], counts[i : i + at_once, cells])[:, 0]
            for i in range(0, len(counts), at_once)
        ]
        return {"pooled_auc": np.concatenate(found)}

    members = None if groups is None else _members(groups, len(rows))
    metrics, intervals = estimates(
        np.arange(len(rows)),
        len(rows),
        statistic,
        replicates=replicates,
        seed=seed,
        groups=members,
    )
    counts = {"num_positives": float(truth.sum()), "num_negatives": float((1 - truth).sum())}
    return PooledAuc({**metrics, "num_queries": float(len(rows)), **counts}, intervals)


def _table(relevant: Sequence[Sequence[int]], queries: int, items: int) -> np.ndarray:
    """(Q, G) bool."""
    if len(relevant) != queries:
        raise UserError(f"{queries} queries but relevant items of {len(relevant)}; give each some.")
    table = np.zeros((queries, items), dtype=bool)
    place = np.repeat(np.arange(queries), [len(own) for own in relevant])
    numbers = np.array([n for own in relevant for n in own], dtype=np.int64)
    outside = numbers[(numbers < 0) | (numbers >= items)]
    if len(outside):
        raise UserError(f"relevant item {outside[0]} is not among the {items} items; count from 0.")
    table[place, numbers] = True
    number = table.sum(1)
    lost = np.flatnonzero((number == 0) | (number == items))
    if len(lost):
        what = "no relevant item" if number[lost[0]] == 0 else "no irrelevant item"
        raise UserError(f"query {lost[0]} has {what}; leave it out.")
    return table


def _members(groups: Sequence[str], queries: int) -> np.ndarray:
    if len(groups) != queries:
        raise UserError(f"{queries} queries but {len(groups)} groups; give one each.")
    return np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1]
