"""Pooled AUC: pairs counted one by one, one threshold for all queries, what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.evaluation.pooled_auc import pooled_auc

RANDOM = np.random.default_rng(0)
QUERIES, ITEMS = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(12, 4))
RELEVANT = [[0], [1, 2], [3], [4, 5, 6], [0]]


def slow(hardest: int) -> float:
    """Every pair of a relevant and a pooled irrelevant score, one after the other."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (QUERIES, ITEMS)]
    scores = unit[0] @ unit[1].T
    positives, negatives = [], []
    for q, own in enumerate(RELEVANT):
        positives += [scores[q, i] for i in own]
        rest = sorted((scores[q, i] for i in range(12) if i not in own), reverse=True)
        negatives += rest[:hardest]
    wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    return float(np.mean(wins))


@pytest.mark.parametrize("block", [2, 100])
@pytest.mark.parametrize("hardest", [1, 3, 500])
def test_it_is_the_share_of_pairs_in_order(hardest: int, block: int) -> None:
    found = pooled_auc(QUERIES, ITEMS, RELEVANT, hardest=hardest, block=block, replicates=0)
    assert found.metrics["pooled_auc"] == pytest.approx(slow(hardest))
    assert found.metrics["num_queries"] == 5
    assert found.metrics["num_positives"] == 8
    rest = sum(min(hardest, 12 - len(own)) for own in RELEVANT)
    assert found.metrics["num_negatives"] == rest
    assert found.intervals == {}


def test_a_query_of_high_scores_costs_though_every_query_finds_its_own() -> None:
    """Of each query the own item is first, yet no threshold serves both."""
    queries = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    items = np.array([[0.3, 0, 0.95], [0.1, 0, 0.99], [0, 0.99, 0.1], [0, 0.9, 0.4]])
    found = pooled_auc(queries, items, [[0], [2]], replicates=0)
    # Positives: 0.30, 0.99; of the six negatives only 0.91 is above one of them.
    assert found.metrics["pooled_auc"] == pytest.approx(11 / 12)


def test_intervals_hold_the_value_and_groups_are_sampled_whole() -> None:
    alone = pooled_auc(QUERIES, ITEMS, RELEVANT, replicates=200)
    low, high = alone.intervals["pooled_auc"]
    assert low <= alone.metrics["pooled_auc"] <= high
    assert low < high
    one = pooled_auc(QUERIES, ITEMS, RELEVANT, groups=["p"] * 5, replicates=20)
    value = one.metrics["pooled_auc"]
    assert one.intervals["pooled_auc"] == pytest.approx((value, value))


@pytest.mark.parametrize(
    ("relevant", "words"),
    [
        ([[0]], "5 queries but relevant items of 1"),
        ([[0], [], [1], [1], [1]], "query 1 has no relevant item"),
        ([list(range(12)), [0], [1], [1], [1]], "query 0 has no irrelevant item"),
        ([[12], [0], [1], [1], [1]], "relevant item 12 is not among the 12 items"),
    ],
)
def test_what_does_not_fit_is_named(relevant, words) -> None:
    with pytest.raises(UserError, match=words):
        pooled_auc(QUERIES, ITEMS, relevant)


def test_nan_widths_and_numbers_are_named() -> None:
    bad = QUERIES.copy()
    bad[1, 0] = np.nan
    with pytest.raises(UserError, match="query embeddings contain NaN"):
        pooled_auc(bad, ITEMS, RELEVANT)
    with pytest.raises(UserError, match="embedding dimensions"):
        pooled_auc(QUERIES, ITEMS[:, :3], RELEVANT)
    with pytest.raises(UserError, match="hardest is 0"):
        pooled_auc(QUERIES, ITEMS, RELEVANT, hardest=0)
    with pytest.raises(UserError, match="5 queries but 1 groups"):
        pooled_auc(QUERIES, ITEMS, RELEVANT, groups=["p"])
