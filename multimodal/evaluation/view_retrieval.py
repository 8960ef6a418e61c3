"""Retrieval between named views of cases, in every direction, with many right answers a query.

A case (a patient at a time) has an item in some of its views: an X-ray, an ECG, a report. An item
may stand in several cases, so a gallery holds each item once, and what is relevant to a query are
all items that share a case with it. For each query::

    rank = 1 + number of irrelevant items that score at least as high as the best relevant one

so ties count against the model. The cosine is the score. Directions between two signals that no
loss ever compared are reported like the others ("emergent").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from multimodal.errors import UserError
from multimodal.evaluation.embeddings import TIE, Embeddings, check_width, unit_rows
from multimodal.evaluation.intervals import REPLICATES, Intervals, estimates, weighted_median

CUTOFFS = (1, 5, 10)
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class View:
    """One view of N cases. items: (N,) int64, the item of each case, -1 where the view is absent.

    embeddings: (I, D), one row an item.
    """

    items: np.ndarray
    embeddings: Embeddings


@dataclass(frozen=True, eq=False)
class ViewRetrieval:
    """metrics: for each ordered pair of views, with the prefix "A_to_B_": recall_at_1, _5, _10 and
    mean_reciprocal_rank, in [0, 1], median_rank, from 1, their chance levels (chance_recall_at_K:
    the mean over queries of the probability that a random order puts a relevant item among the
    first K), num_queries, gallery_size and, if labels are known, label_precision_at_K (share of the
    first K items that have a class of the query, or like it none; min(K, gallery) are looked at)
    with chance_label_precision, that of the whole gallery. Items of which no class is known are
    neither queries nor gallery of these two.

    intervals: (low, high) of 95 %: groups (patients) are sampled with replacement as queries, each
    with all its queries; galleries stay as they are.
    """

    metrics: dict[str, float]
    intervals: Intervals


def view_retrieval(
    views: Mapping[str, View],
    *,
    groups: Sequence[str],
    targets: np.ndarray | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> ViewRetrieval:
    """All directions between views that share a case; those that share none are left out.

    groups: (N,) patient of each case. targets: (N, C) of the cases, 1 where a class is present,
    NaN where it is unknown. UserError: embeddings with NaN, of other widths, fewer than two views.
    """
    if len(views) < 2:
        raise UserError(f"retrieval is between views, and there is only {', '.join(views)}.")
    numbers = np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1]
    metrics: dict[str, float] = {}
    intervals: Intervals = {}
    units = {name: unit_rows(view.embeddings) for name, view in views.items()}
    for one, two in permutations(views, 2):
        pairs = Pairing(views[one].items, views[two].items, numbers, targets)
        if not len(pairs.cases):
            continue
        check_width(units[one], units[two])
        ranks, hits = _ranked(units[one][pairs.queries], units[two][pairs.gallery], pairs)
        statistic = _Statistic(ranks, hits, pairs)
        every = np.arange(pairs.num_groups)
        values, spans = estimates(every, len(every), statistic, replicates=replicates, seed=seed)
        prefix = f"{one}_to_{two}_"
        metrics |= {f"{prefix}{key}": value for key, value in values.items()}
        metrics |= {f"{prefix}{key}": value for key, value in pairs.facts().items()}
        intervals |= {f"{prefix}{key}": span for key, span in spans.items()}
    return ViewRetrieval(metrics, intervals)


@dataclass(frozen=True, eq=False)
class Labels:
    """own: (Q, C + 1), there: (K, C + 1) of the gallery's items whose classes are known, 1 where an
    item has the class, in the last column where it has none. asked: (Q,) bool, queries whose
    classes are known. known: (K,) places in the gallery.
    """

    own: Tensor
    there: Tensor
    asked: np.ndarray
    known: Tensor

    def same(self, queries: slice) -> Tensor:
        """(q, K) bool: they share a class, or both have none."""
        return self.own[queries] @ self.there.T > 0


class Pairing:
    """Queries and gallery of one direction. queries: (Q,) items with a relevant one; gallery: (G,)
    all items of the other view. links: (L, 2) distinct (place in queries, place in gallery).
    """

    def __init__(
        self,
        from_items: np.ndarray,
        to_items: np.ndarray,
        groups: np.ndarray,
        targets: np.ndarray | None,
    ) -> None:
        self.cases = np.flatnonzero((from_items >= 0) & (to_items >= 0))
        self.gallery = np.unique(to_items[to_items >= 0])
        self.queries, first = np.unique(from_items[self.cases], return_index=True)
        # A query's patient is that of its first case; a report that several share has several.
        self.groups = np.unique(groups[self.cases][first], return_inverse=True)[1]
        self.num_groups = int(self.groups.max()) + 1 if len(self.groups) else 0
        places = np.stack(
            [
                np.searchsorted(self.queries, from_items[self.cases]),
                np.searchsorted(self.gallery, to_items[self.cases]),
            ],
            axis=1,
        )
        self.links = np.unique(places, axis=0)
        self.relevant = np.bincount(self.links[:, 0], minlength=len(self.queries))
        self.labels = None if targets is None else self._labels(from_items, to_items, targets)

    def _labels(
        self, from_items: np.ndarray, to_items: np.ndarray, targets: np.ndarray
    ) -> Labels | None:
        own, asked = _of_items(from_items, targets)
        there, known = _of_items(to_items, targets)
        asked, known = asked[self.queries], known[self.gallery]
        if not asked.any() or not known.any():
            return None
        return Labels(
            torch.from_numpy(own[self.queries]).float(),
            torch.from_numpy(there[self.gallery][known]).float(),
            asked,
            torch.from_numpy(np.flatnonzero(known)),
        )

    def facts(self) -> dict[str, float]:
        """Counts and chance levels."""
        size = len(self.gallery)
        chances = {
            f"chance_recall_at_{k}": float(chance_of_hit(size, self.relevant, k).mean())
            for k in CUTOFFS
        }
        if self.labels is not None:
            same = self.labels.same(slice(None))[self.labels.asked]
            chances["chance_label_precision"] = float(same.double().mean())
        return {**chances, "num_queries": len(self.queries), "gallery_size": size}


def chance_of_hit(size: int, relevant: np.ndarray, first: int) -> np.ndarray:
    """P(a relevant item among the ``first`` of ``size`` in random order); relevant: (Q,) counts.

    Hypergeometric: 1 - C(size - relevant, first) / C(size, first).
    """
    first = min(first, size)
    rest = size - relevant
    possible = rest >= first
    rest = np.where(possible, rest, first)
    logs = _log_choose(rest, first) - _log_choose(np.array(size), first)
    return np.where(possible, 1 - np.exp(logs), 1.0)


def _log_choose(n: np.ndarray, k: int) -> np.ndarray:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _of_items(items: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(I, C + 1) bool: classes of each item in any of its cases; the last column: it has none.
    (I,) bool: whether any of its classes is known.
    """
    targets = np.asarray(targets)
    table = np.zeros((items.max() + 1, targets.shape[1] + 1), dtype=bool)
    known = np.zeros(len(table), dtype=bool)
    here = items >= 0
    np.logical_or.at(table[:, :-1], items[here], targets[here] == 1)
    np.logical_or.at(known, items[here], ~np.isnan(targets[here]).all(axis=1))
    table[:, -1] = ~table[:, :-1].any(axis=1)
    return table, known


def _ranked(
    queries: Tensor, gallery: Tensor, pairs: Pairing
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """(Q,) ranks, and by cutoff the (Q,) label precision (empty without labels; NaN: unknown)."""
    ranks = np.empty(len(queries), dtype=np.int64)
    hits = {k: np.full(len(queries), np.nan) for k in CUTOFFS} if pairs.labels is not None else {}
    links = torch.from_numpy(pairs.links)
    for start in range(0, len(queries), BLOCK):
        stop = min(start + BLOCK, len(queries))
        scores = queries[start:stop] @ gallery.T
        inside = links[(links[:, 0] >= start) & (links[:, 0] < stop)]
        own = torch.zeros(scores.shape, dtype=torch.bool)
        own[inside[:, 0] - start, inside[:, 1]] = True
        best = scores.masked_fill(~own, -torch.inf).max(dim=1).values
        above = (scores >= best[:, None] - TIE) & ~own
        ranks[start:stop] = 1 + above.sum(dim=1).numpy()
        if pairs.labels is not None:
            asked = pairs.labels.asked[start:stop]
            same = pairs.labels.same(slice(start, stop)).double()
            # Among equal scores those without a shared class come first.
            known = scores[:, pairs.labels.known]
            order = torch.argsort(known - TIE * same, dim=1, descending=True)
            sorted_hits = same.gather(1, order).cumsum(dim=1)
            for k, found in hits.items():
                most = min(k, known.shape[1])
                shares = (sorted_hits[:, most - 1] / most).numpy()
                found[start:stop] = np.where(asked, shares, np.nan)
    return ranks, hits


class _Statistic:
    """Counts (B, P) of how often each group was drawn -> all metrics, (B,) each."""

    def __init__(self, ranks: np.ndarray, hits: dict[int, np.ndarray], pairs: Pairing) -> None:
        self.ranks, self.groups, self.num_groups = ranks, pairs.groups, pairs.num_groups
        self.values = {f"recall_at_{k}": (ranks <= k).astype(float) for k in CUTOFFS}
        self.values["mean_reciprocal_rank"] = 1 / ranks
        self.values |= {f"label_precision_at_{k}": found for k, found in hits.items()}
        self.sums = {key: self._by_group(np.nan_to_num(v)) for key, v in self.values.items()}
        self.sizes = {key: self._by_group(~np.isnan(v)) for key, v in self.values.items()}

    def _by_group(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.groups, values, self.num_groups)

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        result = {}
        for key, value in self.sums.items():
            number = counts @ self.sizes[key]
            none = np.full(len(counts), np.nan)  # a sample may hold no query whose labels are known
            result[key] = np.divide(counts @ value, number, out=none, where=number > 0)
        result["median_rank"] = weighted_median(self.ranks, counts[:, self.groups])
        return result
