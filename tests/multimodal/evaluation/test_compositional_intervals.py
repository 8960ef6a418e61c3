"""Intervals of compositional scores: the binomial's width, strata, Wilson, pairs of models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from multimodal.errors import UserError
from multimodal.evaluation.compositional_intervals import differences, score_intervals
from multimodal.evaluation.intervals import estimates, wilson


def hits(share: float, count: int) -> np.ndarray:
    return np.arange(count) < round(share * count)


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


@pytest.mark.parametrize(
    ("share", "count", "half"),
    [
        *((1 / 6, 400, 3.7), (0.25, 400, 4.2), (0.5, 400, 4.9)),
        *((1 / 6, 197, 5.2), (0.25, 197, 6.0), (0.5, 197, 7.0)),
    ],
)
def test_the_width_is_the_binomials(share: float, count: int, half: float) -> None:
    hit = hits(share, count)
    found = score_intervals({"group_score": hit}, np.full(count, 2))["group_score"]
    expected = 2 * 1.96 * np.sqrt(hit.mean() * (1 - hit.mean()) / count)
    assert width(found) == pytest.approx(expected, rel=0.1)
    assert 50 * width(found) == pytest.approx(half, rel=0.1)


def test_strata_keep_their_numbers() -> None:
    """All pairs hit, triplets half: only triplets vary, so the interval is theirs, shrunk."""
    sizes = np.repeat([2, 3], [300, 100])
    hit = np.concatenate([np.ones(300, dtype=bool), hits(0.5, 100)])
    found = score_intervals({"text_score": hit}, sizes)["text_score"]
    assert width(found) == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 100) / 4, rel=0.1)
    loose = score_intervals({"text_score": hit}, np.full(400, 2))["text_score"]
    assert width(loose) == pytest.approx(2 * 1.96 * np.sqrt(0.125 * 0.875 / 400), rel=0.1)


def test_a_stratified_bootstrap_is_the_plain_one_by_hand() -> None:
    """Items of each stratum drawn with replacement and put together."""
    rng = np.random.default_rng(0)
    strata, values = np.repeat([5, 7], [40, 20]), rng.normal(size=60)
    values[40:] += 3
    each = np.arange(60)
    _, found = estimates(
        each,
        60,
        lambda counts: {"mean": counts @ values / 60},
        replicates=20_000,
        seed=1,
        strata=strata,
    )
    drawn = np.concatenate(
        [rng.integers(40, size=(20_000, 40)), 40 + rng.integers(20, size=(20_000, 20))], axis=1
    )
    expected = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    np.testing.assert_allclose(found["mean"], expected, atol=0.01)


@pytest.mark.parametrize(("right", "count"), [(0, 1), (0, 197), (400, 400), (3, 7), (50, 100)])
def test_wilson_is_scipys(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(right, count), [expected.low, expected.high], atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wilson_where_the_bootstrap_is_a_point(share: float) -> None:
    found = score_intervals({"text_score": hits(share, 197)}, np.full(197, 2))
    assert found["text_score"] == wilson(round(197 * share), 197)
    assert width(found["text_score"]) > 0.015


def test_wilson_where_each_stratum_is_a_point() -> None:
    sizes = np.repeat([2, 3], [30, 10])
    found = score_intervals({"text_score": sizes == 2}, sizes)
    assert found["text_score"] == wilson(30, 40)


def test_no_replicates_no_intervals() -> None:
    hit, sizes = {"text_score": hits(0.5, 10)}, np.full(10, 2)
    assert score_intervals(hit, sizes, replicates=0) == {}
    assert differences(hit, hit, sizes, replicates=0) == ({"text_score": 0.0}, {})


def test_pairs_of_alike_models_are_told_apart_better() -> None:
    """One hits what two does and a little more: the paired width is McNemar's."""
    one, two = hits(0.5, 400), hits(0.45, 400)
    sizes = np.repeat([2, 3], [300, 100])
    values, intervals = differences({"group_score": one}, {"group_score": two}, sizes)
    assert values == {"group_score": pytest.approx(0.05)}
    paired = width(intervals["group_score"])
    # 20 of the 300 pairs changed, all one way; no triplet did.
    expected = 2 * 1.96 * np.sqrt(20 / 300 * 280 / 300 / 300) * 300 / 400
    assert paired == pytest.approx(expected, rel=0.1)
    apart = [score_intervals({"s": hit}, sizes)["s"] for hit in (one, two)]
    assert paired < 0.5 * np.hypot(*map(width, apart))
    assert intervals["group_score"][0] > 0
    swapped = differences({"group_score": two}, {"group_score": one}, sizes)
    assert swapped[0]["group_score"] == -values["group_score"]
    np.testing.assert_allclose(swapped[1]["group_score"], [-0.068, -0.032], atol=0.005)


def test_models_that_agree_everywhere_may_still_differ() -> None:
    one = {"text_score": hits(0.5, 100)}
    values, intervals = differences(one, one, np.full(100, 2))
    assert values == {"text_score": 0}
    assert intervals["text_score"] == pytest.approx((-0.037, 0.037), abs=1e-3)
    none = {"text_score": np.zeros(100, dtype=bool)}
    every = {"text_score": np.ones(100, dtype=bool)}
    values, intervals = differences(every, none, np.full(100, 2))
    assert values == {"text_score": 1}
    assert intervals["text_score"] == (pytest.approx(0.926, abs=1e-3), 1)


def test_other_items_are_refused() -> None:
    one, two = {"text_score": hits(0.5, 10)}, {"text_score": hits(0.5, 9)}
    with pytest.raises(UserError, match="models scored 9, 10 items"):
        differences(one, two, np.full(10, 2))
    with pytest.raises(UserError, match="same items and scores"):
        differences(one, {"audio_score": hits(0.5, 10)}, np.full(10, 2))


def test_runs_of_several_seeds_are_compared_by_their_means() -> None:
    """Items are drawn with the outcomes of all runs, by hand; one run is a run."""
    rng = np.random.default_rng(4)
    one, two = (rng.random((3, 200)) < share for share in (0.5, 0.4))
    sizes = np.full(200, 2)
    values, intervals = differences({"t": one}, {"t": two}, sizes, seed=1)
    change = (one.astype(float) - two).mean(axis=0)
    assert values["t"] == pytest.approx(change.mean())
    drawn = change[rng.integers(200, size=(10_000, 200))].mean(axis=1)
    np.testing.assert_allclose(intervals["t"], np.percentile(drawn, [2.5, 97.5]), atol=6e-3)
    single = differences({"t": one[0]}, {"t": two[0]}, sizes, seed=1)
    assert single == differences({"t": one[:1]}, {"t": two[:1]}, sizes, seed=1)
    repeated = differences({"t": one[[0, 0]]}, {"t": two[[0, 0]]}, sizes, seed=1)
    assert repeated == single
