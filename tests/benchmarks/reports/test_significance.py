"""Paired tests, Friedman's test and Nemenyi's difference, against SciPy, the paper, and by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reports.figures.apart import apart, cd_chart
from benchmarks.reports.lines import SIZES
from benchmarks.reports.ranking import Ranked, ranked
from benchmarks.reports.significance import (
    Ranks,
    _friedman,
    against_best,
    cliques,
    holm,
    nemenyi,
    paired,
    ranks,
)
from tests.benchmarks.fake_results import make_result
from tests.benchmarks.reports.svg_words import outside, touching


def table(scores: dict[str, list[float]], **changes: object) -> Ranked:
    """Rows whose runs of seeds 0, 1, ... have these average accuracies."""
    runs = []
    for name, values in scores.items():
        for seed, value in enumerate(values):
            run = make_result(name, seed)
            runs.append(replace(run, metrics={**run.metrics, "average_accuracy": value}, **changes))
    return ranked(runs)


SCORES = {
    "a": [0.80, 0.82, 0.85, 0.79, 0.81],
    "b": [0.70, 0.75, 0.71, 0.74, 0.72],
    "c": [0.71, 0.70, 0.74, 0.73, 0.70],
    "d": [0.50, 0.55, 0.52, 0.51, 0.53],
}


def test_pairs_are_those_of_scipy() -> None:
    found = paired(table(SCORES), "a", "b")
    assert found is not None
    expected = scipy.stats.ttest_rel(SCORES["a"], SCORES["b"])
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert found.apart.half_width is not None
    assert found.apart.mean - found.apart.half_width == pytest.approx(interval.low)
    assert found.apart.seeds == 5


def test_only_seeds_of_both_count() -> None:
    short = table({"a": SCORES["a"], "b": SCORES["b"][:2], "c": SCORES["c"][:1]})
    assert paired(short, "a", "b").apart.seeds == 2  # type: ignore[union-attr]
    assert paired(short, "a", "c") is None
    assert ranks(short) is None
    equal = table({"a": [0.5, 0.5], "b": [0.4, 0.4]})
    assert paired(equal, "a", "b").p is None  # type: ignore[union-attr]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.03, 0.06, 0.06, None])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_the_best_is_compared_with_all_others() -> None:
    found = against_best(table(SCORES))
    assert [(each.first, each.second) for each, _ in found] == [("a", n) for n in "bcd"]
    assert all(adjusted >= each.p for each, adjusted in found)  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 8), st.integers(3, 12), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_friedman_is_scipys_with_ties_too(rows: int, blocks: int, values: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, values, (blocks, rows)).astype(float)
    order = scipy.stats.rankdata(-drawn, axis=1)
    ties = all(len(set(block)) == 1 for block in drawn.tolist())
    if ties:
        assert _friedman(order) == 0.0
    else:
        expected = scipy.stats.friedmanchisquare(*(-drawn).T)
        assert _friedman(order) == pytest.approx(expected.statistic)


def test_nemenyi_is_the_table_of_the_paper() -> None:
    """Demšar 2006, table 5 (a): q at 0.05 for 2 to 10 classifiers; CD = q sqrt(k (k + 1) / 6 N)."""
    known = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for rows, q in zip(range(2, 11), known, strict=True):
        assert nemenyi(rows, 14) == pytest.approx(q * np.sqrt(rows * (rows + 1) / 84), abs=2e-3)
    # His example: 4 classifiers, 14 data sets, CD = 1.25 (q of 0.10 is 2.291: 1.12).
    assert nemenyi(4, 14) == pytest.approx(1.25, abs=0.01)
    assert nemenyi(4, 14, level=0.10) == pytest.approx(1.12, abs=0.01)


def test_cliques_are_the_longest_runs() -> None:
    assert cliques([1.0, 1.5, 2.6, 3.0], 1.2) == [(0, 1), (1, 2), (2, 3)]
    assert cliques([1.0, 1.1, 1.2], 5.0) == [(0, 2)]
    assert cliques([1.0, 3.0, 5.0], 1.0) == []


def test_ranks_are_by_hand() -> None:
    found = ranks(table(SCORES))
    assert found is not None
    by_hand = np.array([[1, 3, 2, 4], [1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    assert dict(zip(found.names, found.mean, strict=True)) == dict(
        zip("abcd", by_hand.mean(axis=0).tolist(), strict=True)
    )
    expected = scipy.stats.friedmanchisquare(*[-np.array(v) for v in SCORES.values()])
    assert (found.chi2, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_joint_training_is_not_ranked() -> None:
    found = ranks(table({**SCORES, "joint": [0.99] * 5}))
    assert found is not None
    assert "joint" not in found.names


def test_the_page_tells_both() -> None:
    text = apart(table(SCORES))
    assert "Friedman: χ² = " in text
    assert text.count("<tr>") == 1 + 3
    assert apart(table({"a": [0.5], "b": [0.4]})) == ""
    assert "critical difference" not in apart(table({"a": [0.5, 0.6], "b": [0.4, 0.3]}))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=24), st.integers(3, 9), st.data())
def test_no_word_of_the_diagram_stands_in_another(drawn: list[float], blocks: int, data) -> None:
    mean = sorted(1 + value * (len(drawn) - 1) for value in drawn)
    names = [f"{'long ' * data.draw(st.integers(0, 20))}name {i}" for i in range(len(mean))]
    critical = nemenyi(len(mean), blocks)
    found = Ranks(names, mean, blocks, 1.0, 0.5, critical, cliques(mean, critical))
    for width, _ in SIZES.values():
        svg = cd_chart(found, width, "accuracy", {name: i for i, name in enumerate(names)})
        assert not touching(svg)
        assert not outside(svg)
        xs = [float(x) for x in re.findall(r"translate\(([\d.]+)", svg)]
        assert xs == sorted(xs)
