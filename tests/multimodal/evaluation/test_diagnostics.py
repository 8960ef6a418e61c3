"""Diagnostics against closed forms, brute force over pairs, and their invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import hyp0f1
from scipy.stats import ortho_group

from multimodal.errors import UserError
from multimodal.evaluation import diagnostics as module
from multimodal.evaluation.diagnostics import (
    alignment,
    centroid_distance,
    cross_uniformity,
    diagnose,
    diagnose_classes,
    effective_rank,
    linear_separability,
    pca_dimension,
    tolerance,
    uniformity,
)


def sphere(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Uniform on the unit sphere."""
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("width", "golden"), [(3, -2.080), (16, -3.513), (128, -3.9375)])
def test_uniformity_of_the_uniform_law(width: int, golden: float) -> None:
    closed = -4 + math.log(hyp0f1(width / 2, 4))
    assert closed == pytest.approx(golden, abs=5e-4)
    assert uniformity(sphere(3_000, width)) == pytest.approx(closed, abs=6e-3)
    assert cross_uniformity(sphere(1_500, width, 1), sphere(1_500, width, 2)) == pytest.approx(
        closed, abs=1.2e-2
    )


def test_pairs_are_distinct_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sphere(11, 4, 1), sphere(11, 4, 2)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0, 5, 5, 7])
    monkeypatch.setattr(module, "BLOCK", 3)

    def over_pairs(value) -> list[float]:
        return [value(i, j) for i in range(11) for j in range(11) if i != j]

    kernel = over_pairs(lambda i, j: math.exp(-2 * np.sum((x[i] - x[j]) ** 2)))
    assert uniformity(x) == pytest.approx(math.log(np.mean(kernel)))
    crossed = over_pairs(lambda i, j: math.exp(-2 * np.sum((x[i] - y[j]) ** 2)))
    assert cross_uniformity(x, y) == pytest.approx(math.log(np.mean(crossed)))
    same = over_pairs(lambda i, j: x[i] @ x[j] * (labels[i] == labels[j]))
    share = np.mean(over_pairs(lambda i, j: labels[i] == labels[j]))
    assert tolerance(x, labels) == pytest.approx((np.mean(same), np.mean(same) / share))


def test_all_in_one_point() -> None:
    x = np.tile([0.6, 0.8, 0.0], (10, 1))
    assert uniformity(x) == pytest.approx(0, abs=1e-12)
    assert tolerance(x, np.arange(10) % 2)[1] == pytest.approx(1)
    assert effective_rank(x) == 1
    assert effective_rank(x, centre=False) == pytest.approx(1)
    assert pca_dimension(x) == 0
    rounded = np.tile(sphere(1, 37), (91, 1))  # its mean is not exactly each of its rows
    assert effective_rank(rounded) == 1
    assert pca_dimension(rounded) == 0
    assert tolerance(x, np.arange(10)) == (pytest.approx(0), None)


def test_the_farthest_pairs() -> None:
    x = np.array([[1.0, 0.0]])
    assert alignment(x, -x) == 4
    assert centroid_distance(x, -x) == 2
    assert uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])) == -8


def test_identical_modalities_have_no_gap() -> None:
    x = sphere(200, 8)
    found = diagnose(x, x.copy()).metrics
    assert found["alignment"] == 0
    assert found["centroid_distance"] == 0
    assert found["linear_separability"] == 0.5
    # The printed sum over N instead of the mean over pairs would add exactly log(N - 1).
    assert found["cross_uniformity"] == pytest.approx(found["signal_uniformity"])
    assert found["signal_effective_rank"] == found["text_effective_rank"]


def test_a_constant_offset_opens_the_gap() -> None:
    x, noise = sphere(300, 8, 0), sphere(300, 8, 1)
    close = diagnose(x, x + 0.3 * noise).metrics
    apart = diagnose(x, x + 0.3 * noise + np.eye(8)[0]).metrics
    assert apart["centroid_distance"] > close["centroid_distance"] + 0.3
    assert apart["linear_separability"] > close["linear_separability"] + 0.1
    offset = 3 * np.eye(8)[0]
    disjoint = diagnose(x * [0, *[1] * 7] - offset, x * [0, *[1] * 7] + offset).metrics
    assert disjoint["linear_separability"] == 1.0


def test_a_joint_rotation_changes_nothing() -> None:
    x, y, labels = sphere(60, 6, 0), sphere(60, 6, 1), np.arange(60) % 3
    turn = ortho_group.rvs(6, random_state=0)
    before = diagnose(x, y, labels=labels).metrics
    after = diagnose(5 * x @ turn, 0.1 * y @ turn, labels=labels).metrics
    assert set(before) == {
        "alignment",
        "cross_uniformity",
        "centroid_distance",
        "linear_separability",
        "signal_uniformity",
        "signal_effective_rank",
        "signal_pca_dimension",
        "signal_tolerance",
        "signal_tolerance_same_class",
        "text_uniformity",
        "text_effective_rank",
        "text_pca_dimension",
    }
    assert before == pytest.approx(after)


def test_effective_rank_of_orthogonal_directions() -> None:
    assert effective_rank(np.eye(6), centre=False) == pytest.approx(6)
    assert effective_rank(np.concatenate([np.eye(6), -np.eye(6)])) == pytest.approx(6)
    assert effective_rank(np.eye(6)) == pytest.approx(5)  # the mean takes one away
    # Singular values in the ratio 2 to 1: entropy of (2/3, 1/3).
    rows = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]])
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert effective_rank(rows, centre=False) == pytest.approx(math.exp(entropy))
    wide = torch.randn(40, 3) @ torch.randn(3, 30)
    assert effective_rank(wide, centre=False) <= 3 + 1e-9


def test_pca_dimension_is_the_share_of_variance() -> None:
    # Points at +-e_i: 6, 3 and 1 pairs, so shares of variance 0.6, 0.3 and 0.1.
    half = np.repeat(np.eye(3), [6, 3, 1], axis=0)
    x = np.concatenate([half, -half])
    assert [pca_dimension(x, share) for share in (0.5, 0.6, 0.8, 0.9, 0.95, 1.0)] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]


@pytest.mark.parametrize("seed", range(8))
def test_the_whole_variance_needs_no_more_than_all_components(seed: int) -> None:
    assert pca_dimension(sphere(40, 7, seed), 1.0) == 7


def test_bad_input_is_refused() -> None:
    x = sphere(6, 3)
    broken = x.copy()
    broken[2, 0] = np.nan
    with pytest.raises(UserError, match=r"1 of 6 recording embeddings .*'2\.wav'"):
        diagnose(broken, x, recordings=[f"{i}.wav" for i in range(6)])
    with pytest.raises(UserError, match=r"1 of 6 text embeddings .*row 2"):
        diagnose(x, broken)
    with pytest.raises(UserError, match=r"signals have shape \(6, 3\) and texts \(5, 3\)"):
        alignment(x, x[:5])
    with pytest.raises(UserError, match="4 embeddings are too few; this needs at least 5"):
        linear_separability(x[:4], x[:4])
    with pytest.raises(UserError, match="1 embeddings are too few"):
        uniformity(x[:1])
    with pytest.raises(UserError, match=r"labels have shape \(5,\)"):
        tolerance(x, np.zeros(5, dtype=int))
    with pytest.raises(UserError, match=r"share is 80"):
        pca_dimension(x, 80)


def test_of_classes_every_text_counts_once() -> None:
    x, classes = sphere(12, 5, 3), sphere(3, 5, 4)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    found = diagnose_classes(x, labels, classes).metrics
    apart = [np.sum((x[i] - classes[labels[i]]) ** 2) for i in range(12)]
    assert found["alignment"] == pytest.approx(np.mean(apart))
    gap = np.linalg.norm(x.mean(axis=0) - classes.mean(axis=0))  # not weighted by recordings
    assert found["centroid_distance"] == pytest.approx(gap)
    # The rest is that of one side alone.
    own = diagnose(x, classes[labels], labels=labels).metrics
    for key in ("uniformity", "effective_rank", "pca_dimension", "tolerance"):
        assert found[f"signal_{key}"] == pytest.approx(own[f"signal_{key}"])
    assert found["text_uniformity"] == pytest.approx(uniformity(classes))
    assert not {"cross_uniformity", "linear_separability"} & found.keys()
    with pytest.raises(UserError, match="NaN"):
        diagnose_classes(np.full((12, 5), np.nan), labels, classes)
