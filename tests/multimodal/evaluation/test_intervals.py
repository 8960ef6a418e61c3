"""Bootstrap: the cells' shortcut is the plain resampling; known standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score

from multimodal.errors import UserError
from multimodal.evaluation.intervals import accuracy_estimates, estimates, weighted_median

KEYS = {"top1": "top1", "top5": "top5", "recall": "recall"}


def mean_of(values: np.ndarray):
    return lambda counts: {"mean": counts @ values / counts.sum(axis=1)}


def test_the_interval_of_a_share_is_the_binomials() -> None:
    outcomes = np.repeat([0, 1], [140, 60])
    values, intervals = estimates(
        outcomes, 2, mean_of(np.array([0.0, 1.0])), replicates=20_000, seed=3
    )
    error = np.sqrt(0.3 * 0.7 / 200)
    assert values == {"mean": 0.3}
    np.testing.assert_allclose(
        intervals["mean"], [0.3 - 1.96 * error, 0.3 + 1.96 * error], atol=0.006
    )


def test_it_is_plain_resampling() -> None:
    outcomes = np.random.default_rng(0).normal(size=30)
    each = np.arange(30)
    _, intervals = estimates(each, 30, mean_of(outcomes), replicates=500, seed=7)
    rows = np.random.default_rng(7).integers(30, size=(500, 30))
    expected = np.quantile(outcomes[rows].mean(axis=1), [0.025, 0.975])
    np.testing.assert_allclose(intervals["mean"], expected)


def test_equal_runs_are_equal_and_seeds_differ() -> None:
    def run(seed: int):
        cells = np.arange(50)
        return estimates(cells, 50, mean_of(cells / 50), replicates=100, seed=seed)

    assert run(1) == run(1)
    assert run(1)[0] == run(2)[0]
    assert run(1)[1] != run(2)[1]


def test_no_replicates_no_interval() -> None:
    cells = np.arange(3)
    assert estimates(cells, 3, mean_of(cells), replicates=0, seed=0) == ({"mean": 1.0}, {})
    with pytest.raises(UserError, match="replicates is -1"):
        estimates(cells, 3, mean_of(cells), replicates=-1, seed=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=8))
def test_weighted_median_is_the_median_of_the_repeated_values(pairs) -> None:
    values, counts = np.array(pairs).T
    if counts.sum():
        expected = np.median(np.repeat(values, counts))
        assert weighted_median(values, counts[None])[0] == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8)), min_size=1, max_size=30))
def test_accuracy_and_recall_are_the_peers(pairs) -> None:
    labels, ranks = np.array(pairs).T
    found, _ = accuracy_estimates(labels, ranks, 4, KEYS, replicates=0, seed=0)
    predicted = np.where(ranks == 1, labels, 9)
    recall = recall_score(labels, predicted, average="macro", labels=np.unique(labels))
    assert found["top1"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["recall"] == pytest.approx(recall)
    assert found["top5"] == pytest.approx(np.mean(ranks <= 5))


def test_macro_recall_differs_from_accuracy_where_classes_are_unbalanced() -> None:
    labels, ranks = np.array([0] * 9 + [1]), np.array([1] * 9 + [2])
    found, intervals = accuracy_estimates(labels, ranks, 3, KEYS, replicates=200, seed=0)
    assert found == {"top1": 0.9, "top5": 1.0, "recall": 0.5}
    assert set(intervals) == set(KEYS)
    assert intervals["top5"] == (1.0, 1.0)


def test_groups_are_drawn_whole() -> None:
    """As written out: the means of groups drawn with replacement, each with all that it has."""
    rng = np.random.default_rng(3)
    groups, values = rng.integers(6, size=30), rng.random(30)
    each = np.arange(30)
    run: Any = {"replicates": 400, "seed": 1}
    found = estimates(each, 30, mean_of(values), groups=groups, **run)
    own = [values[groups == g] for g in np.unique(groups)]
    drawn = np.random.default_rng(1).integers(len(own), size=(400, len(own)))
    means = [np.concatenate([own[g] for g in row]).mean() for row in drawn]
    (interval,) = found[1].values()
    assert interval == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    alone = estimates(each, 30, mean_of(values), groups=each, **run)
    assert alone == estimates(each, 30, mean_of(values), **run)
