"""Retrieval between views: a slow oracle with ties, closed forms, chance by enumeration."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.errors import UserError
from multimodal.evaluation.view_retrieval import CUTOFFS, View, chance_of_hit, view_retrieval


def oracle(one: View, two: View, targets: np.ndarray) -> dict[str, float]:
    """Pure Python, from the definition."""
    shared = [(a, b) for a, b in zip(one.items, two.items, strict=True) if a >= 0 and b >= 0]
    gallery = sorted({b for b in two.items if b >= 0})
    ranks, precisions, shares = [], {k: [] for k in CUTOFFS}, []
    for query in sorted({a for a, _ in shared}):
        relevant = {b for a, b in shared if a == query}
        scores = {b: cosine(one.embeddings[query], two.embeddings[b]) for b in gallery}
        best = max(scores[b] for b in relevant)
        ranks.append(1 + sum(scores[b] >= best - 1e-9 for b in gallery if b not in relevant))
        own = classes(one, query, targets)
        same = {b: bool(own & classes(two, b, targets)) for b in gallery if known(two, b, targets)}
        if not same or not known(one, query, targets):
            continue
        shares.append(sum(same.values()) / len(same))
        order = sorted(same, key=lambda b: (-round(scores[b], 9), same[b]))
        for k in CUTOFFS:
            first = order[:k]
            precisions[k].append(sum(same[b] for b in first) / len(first))
    result = {f"recall_at_{k}": float(np.mean([r <= k for r in ranks])) for k in CUTOFFS}
    if shares:
        result |= {f"label_precision_at_{k}": float(np.mean(precisions[k])) for k in CUTOFFS}
        result["chance_label_precision"] = float(np.mean(shares))
    return {
        **result,
        "median_rank": float(np.median(ranks)),
        "mean_reciprocal_rank": float(np.mean([1 / r for r in ranks])),
        "num_queries": len(ranks),
        "gallery_size": len(gallery),
    }


def cosine(a: Any, b: Any) -> float:
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length else 0.0


def classes(view: View, item: int, targets: np.ndarray) -> set[int]:
    cases = [i for i, other in enumerate(view.items) if other == item]
    return {int(c) for i in cases for c in np.flatnonzero(targets[i] == 1)} or {-1}


def known(view: View, item: int, targets: np.ndarray) -> bool:
    cases = [i for i, other in enumerate(view.items) if other == item]
    return any(not np.isnan(targets[i]).all() for i in cases)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, View], np.ndarray, list[str]]:
    """Few items with few distinct directions, so that ties and shared items are common."""
    count = draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    views = {}
    for name in ("xray", "ecg", "text"):
        items = rng.integers(-1, draw(st.integers(1, 5)), count)
        views[name] = View(items, rng.integers(-1, 2, (6, 2)).astype(float))
    targets = rng.integers(0, 2, (count, 2)).astype(float)
    targets[rng.random((count, 2)) < draw(st.sampled_from([0, 0.3, 0.8]))] = np.nan
    return views, targets, [f"p{i}" for i in rng.integers(0, 4, count)]


@given(cases())
def test_it_equals_the_definition(drawn) -> None:
    views, targets, groups = drawn
    found = view_retrieval(views, groups=groups, targets=targets, replicates=0).metrics
    for one in views:
        for two in views:
            if one == two:
                continue
            both = (views[one].items >= 0) & (views[two].items >= 0)
            prefix = f"{one}_to_{two}_"
            own = {k[len(prefix) :]: v for k, v in found.items() if k.startswith(prefix)}
            if not both.any():
                assert own == {}
                continue
            expected = oracle(views[one], views[two], targets)
            assert {k: own.get(k) for k in expected} == pytest.approx(expected, abs=1e-9)
            assert ("label_precision_at_1" in own) == ("label_precision_at_1" in expected)


def test_identity_is_perfect_and_constant_is_the_worst() -> None:
    items, groups = np.arange(6), [str(i) for i in range(6)]
    perfect = {"a": View(items, np.eye(6)), "b": View(items, np.eye(6))}
    found = view_retrieval(perfect, groups=groups).metrics
    assert found["a_to_b_recall_at_1"] == found["b_to_a_mean_reciprocal_rank"] == 1
    assert found["a_to_b_median_rank"] == 1
    constant = {"a": View(items, np.ones((6, 6))), "b": View(items, np.ones((6, 6)))}
    found = view_retrieval(constant, groups=groups).metrics
    assert found["a_to_b_recall_at_1"] == found["a_to_b_recall_at_5"] == 0
    assert found["a_to_b_median_rank"] == 6
    assert found["a_to_b_chance_recall_at_5"] == pytest.approx(5 / 6)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9))
def test_chance_is_what_counting_all_orders_gives(size: int, relevant: int, first: int) -> None:
    relevant = min(relevant, size)
    drawn = list(combinations(range(size), min(first, size)))
    exact = Fraction(sum(any(i < relevant for i in d) for d in drawn), len(drawn))
    (found,) = chance_of_hit(size, np.array([relevant]), first)
    assert found == pytest.approx(float(exact), abs=1e-12)


def test_intervals_sample_patients_and_not_cases() -> None:
    """Two patients with 50 equal cases each: the interval is as wide as that of two draws."""
    items, axis = np.arange(100), np.eye(100)
    other = axis.copy()
    other[50:] = np.roll(axis[50:], 1, axis=0)  # the second patient's are never found first
    views = {"a": View(items, axis), "b": View(items, other)}
    groups = ["one"] * 50 + ["two"] * 50
    found = view_retrieval(views, groups=groups, replicates=400)
    assert found.metrics["a_to_b_recall_at_1"] == 0.5
    assert found.intervals["a_to_b_recall_at_1"] == (0.0, 1.0)
    finer = view_retrieval(views, groups=[str(i) for i in range(100)], replicates=400)
    low, high = finer.intervals["a_to_b_recall_at_1"]
    assert 0.3 < low < 0.5 < high < 0.7


def test_unknown_labels_are_no_finding() -> None:
    """Ten items have the class, ten are unknown: of what is known, every hit shares it."""
    items, rng = np.arange(20), np.random.default_rng(0)
    targets = np.full((20, 3), np.nan)
    targets[:10] = [1, 0, 0]
    views = {name: View(items, rng.normal(size=(20, 4))) for name in ("a", "b")}
    groups = [str(i) for i in items]
    found = view_retrieval(views, groups=groups, targets=targets, replicates=20)
    assert found.metrics["a_to_b_label_precision_at_5"] == 1
    assert found.metrics["a_to_b_chance_label_precision"] == 1
    assert found.intervals["a_to_b_label_precision_at_5"] == (1, 1)
    assert found.metrics["a_to_b_gallery_size"] == found.metrics["a_to_b_num_queries"] == 20
    none = view_retrieval(views, groups=groups, targets=targets * np.nan, replicates=20)
    assert not any("label" in key for key in none.metrics)


def test_bad_input_has_one_line() -> None:
    one = View(np.arange(2), np.eye(2))
    with pytest.raises(UserError, match="only a"):
        view_retrieval({"a": one}, groups=["x", "y"])
    with pytest.raises(UserError, match="dimensions"):
        view_retrieval({"a": one, "b": View(np.arange(2), np.eye(3))}, groups=["x", "y"])
