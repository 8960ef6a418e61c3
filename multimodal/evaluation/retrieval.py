"""Retrieval between signals and their captions, both ways, exact and in bounded memory.

Text to signal: every caption is a query with one relevant signal. Signal to text: the pool holds
all captions, of which a signal owns M; any-hit recall asks for its best-ranked one (CLIP's and
LAION-CLAP's measure), true recall for all of them. A signal and a caption score by their cosine.

Ties are broken against the model: whatever is not relevant and scores at least as high comes
first. Own captions cannot push each other down: the i-th best of them has the rank i + the number
of OTHER signals' captions that score at least as high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multimodal.errors import UserError
from multimodal.evaluation.captions import CaptionPool
from multimodal.evaluation.embeddings import (
    TIE,
    Embeddings,
    EmbedTexts,
    check_width,
    unit_rows,
    unit_texts,
)
from multimodal.evaluation.intervals import REPLICATES, Intervals, estimates, weighted_median

CUTOFFS = (1, 5, 10)
BLOCK = 2048  # a block of scores is 32 MiB of float64


@dataclass(frozen=True, eq=False)
class Ranks:
    """text_to_signal: (C,) int64, the rank of each caption's signal among A, from 1.

    signal_to_text: (A, M) int64, the ranks of each signal's captions among C, ascending; M is the
    largest number of captions, and a signal with fewer has 0 in the places that it lacks.
    """

    text_to_signal: np.ndarray
    signal_to_text: np.ndarray


@dataclass(frozen=True, eq=False)
class Retrieval:
    """metrics: recall_at_1, recall_at_5, recall_at_10, map_at_10, in [0, 1], median_rank and
    mean_rank, from 1, of text to signal. With the prefix signal_to_text_ the same of the other
    way, where recall is any-hit and ranks are of the best own caption, and
    signal_to_text_true_recall_at_K: the mean over signals of own captions among the first K / own
    captions. Also the counts of ``CaptionPool.metrics``.

    intervals: (low, high) of 95 %: signals, each with all its captions, are sampled as queries;
    the pools that they search stay as they are.
    """

    metrics: dict[str, float]
    intervals: Intervals
    ranks: Ranks


def retrieval(
    signals: Embeddings,
    pool: CaptionPool,
    embed_texts: EmbedTexts,
    *,
    block: int = BLOCK,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Retrieval:
    """Search the pool's captions with its signals and the other way round.

    signals: (A, D), one row for each of ``pool.rows``. block: side of the square of scores that
    exists at any time; it changes no rank. UserError: embeddings with NaN (all named at once),
    numbers and widths that do not fit.
    """
    rows = unit_rows(signals, pool.signals)
    texts = unit_texts(pool.texts, embed_texts)
    ranks = retrieval_ranks(rows, texts, pool.owner, block=block)
    each = np.arange(len(rows))
    metrics, intervals = estimates(
        each, len(each), _Statistic(ranks, pool.owner), replicates=replicates, seed=seed
    )
    return Retrieval({**metrics, **pool.metrics}, intervals, ranks)


def retrieval_ranks(
    signals: Tensor, captions: Tensor, owner: np.ndarray, *, block: int = BLOCK
) -> Ranks:
    """signals: (A, D), captions: (C, D), float64 unit rows; owner: (C,) ids in [0, A), each used.

    Time O(A C (D + M)); memory O(block^2 + A M + C) beside the embeddings.
    """
    check_width(signals, captions)
    if block < 1:
        raise UserError(f"block is {block}; give at least 1, such as {BLOCK}.")
    owners = torch.from_numpy(owner)
    numbers = torch.bincount(owners, minlength=len(signals))
    if len(numbers) != len(signals) or not numbers.all():
        raise UserError(f"owner must name each of the {len(signals)} signals, and no other.")
    own = torch.cat(
        [
            (signals[mine] * part).sum(dim=1)
            for mine, part in zip(owners.split(block), captions.split(block), strict=True)
        ]
    )
    best_first = _own_scores(own, owners, numbers)
    others = torch.zeros(best_first.shape, dtype=torch.int64)
    ranks = torch.ones(len(captions), dtype=torch.int64)
    for first in range(0, len(signals), block):
        here = slice(first, first + block)
        for start in range(0, len(captions), block):
            there = slice(start, start + block)
            scores = signals[here] @ captions[there].T
            inside = (owners[there] // block == first // block).nonzero().flatten()
            scores[owners[there][inside] - first, inside] = -torch.inf
            ranks[there] += _number(scores >= own[there] - TIE, dim=0)
            for place in range(best_first.shape[1]):
                threshold = best_first[here, place, None] - TIE
                others[here, place] += _number(scores >= threshold, dim=1)
    places = torch.arange(1, best_first.shape[1] + 1)
    table = torch.where(places <= numbers[:, None], others + places, 0)
    return Ranks(ranks.numpy(), table.numpy())


def _number(mask: Tensor, dim: int) -> Tensor:
    # torch.int32 has a vectorised sum, some fifteen times faster than the default int64.
    return mask.sum(dim=dim, dtype=torch.int32)


def _own_scores(own: Tensor, owners: Tensor, numbers: Tensor) -> Tensor:
    """(A, M) float64: the scores of each signal's captions, descending, then infinity."""
    descending = own.argsort(descending=True)
    order = descending[owners[descending].argsort(stable=True)]
    starts = numbers.cumsum(dim=0) - numbers
    places = torch.arange(len(own)) - starts[owners[order]]
    table = torch.full((len(numbers), int(numbers.max())), torch.inf, dtype=torch.float64)
    table[owners[order], places] = own[order]
    return table


class _Statistic:
    """Counts (B, A) of how often each signal was drawn -> all metrics, (B,) each."""

    def __init__(self, ranks: Ranks, owner: np.ndarray) -> None:
        table, found = ranks.signal_to_text, ranks.text_to_signal
        self.found, self.best, self.owner = found, table[:, 0], owner
        self.sizes = np.bincount(owner)
        present = table > 0

        def of_captions(values: np.ndarray) -> np.ndarray:
            return np.bincount(owner, values, len(self.sizes))

        # Sums over each signal's captions, to be divided by the number of captions drawn ...
        self.sums = {f"recall_at_{k}": of_captions(found <= k) for k in CUTOFFS}
        self.sums["map_at_10"] = of_captions(np.where(found <= 10, 1 / found, 0))
        self.sums["mean_rank"] = of_captions(found)
        # ... and one value a signal.
        self.values = {"mean_rank": self.best, "map_at_10": average_precision_at_10(table)}
        for k in CUTOFFS:
            self.values[f"recall_at_{k}"] = self.best <= k
            own_found = (present & (table <= k)).sum(axis=1)
            self.values[f"true_recall_at_{k}"] = own_found / self.sizes

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        captions, signals = counts @ self.sizes, counts.sum(axis=1)
        result = {key: counts @ value / captions for key, value in self.sums.items()}
        result["median_rank"] = weighted_median(self.found, counts[:, self.owner])
        result |= {
            f"signal_to_text_{key}": counts @ value / signals for key, value in self.values.items()
        }
        result["signal_to_text_median_rank"] = weighted_median(self.best, counts)
        return result


def average_precision_at_10(ranks: np.ndarray | Sequence[Sequence[int]]) -> np.ndarray:
    """(A,) in [0, 1]: 1/M times the sum, over own captions of sorted ranks r_i <= 10, of i / r_i.

    That is mAP@10 of DCASE before the mean. ranks: (A, M) from 1, in any order; 0 where a signal
    has fewer than M captions. (LAION-CLAP's released evaluator describes the sort and leaves it
    out, so that its values can exceed 1.)
    """
    table = np.asarray(ranks)
    ordered = np.sort(np.where(table > 0, table, np.iinfo(np.int64).max), axis=1)
    places = np.arange(1, table.shape[1] + 1)
    return np.where(ordered <= 10, places / ordered, 0).sum(axis=1) / (table > 0).sum(axis=1)
