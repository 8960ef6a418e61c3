"""Mahalanobis scores against closed forms and invariances; AUROC and FPR95 by counting."""

from __future__ import annotations

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.evaluation.out_of_distribution import Mahalanobis, out_of_distribution_metrics
from tests.multimodal.objectives.oracles import numpy_unit


def normal(count: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def test_of_a_round_gaussian_it_is_the_squared_distance_over_the_variance() -> None:
    train, x = 3 * normal(40_000) + 1, 3 * normal(50, seed=1) + 1
    scores = Mahalanobis(train, normalise=False).scores(x)
    np.testing.assert_allclose(scores, -((x - 1) ** 2).sum(1) / 9, rtol=0.05, atol=0.05)


def test_it_is_that_of_the_inverse_covariance() -> None:
    train, x = normal(30) @ normal(4, seed=2), normal(5, seed=1)
    for normalise in (False, True):
        model = Mahalanobis(train, normalise=normalise)
        t, y = (numpy_unit(z) if normalise else z for z in (train, x))
        inverse = np.linalg.inv(np.cov(t.T, bias=True))
        expected = [-(row - t.mean(0)) @ inverse @ (row - t.mean(0)) for row in y]
        np.testing.assert_allclose(model.scores(x), expected, rtol=1e-8)


def test_invertible_linear_maps_change_nothing() -> None:
    train, x, turn = normal(30), normal(5, seed=1), normal(4, seed=3)
    before = Mahalanobis(train, normalise=False).scores(x)
    after = Mahalanobis(train @ turn - 7, normalise=False).scores(x @ turn - 7)
    np.testing.assert_allclose(after, before, rtol=1e-7)


def test_features_that_do_not_span_the_space() -> None:
    train, x = normal(30), normal(5, seed=1)
    expected = Mahalanobis(train, normalise=False).scores(x)

    def wide(z):  # a copy of a channel, and a constant one
        return np.concatenate([z, z[:, :1], np.full((len(z), 1), 0.3)], axis=1)

    found = Mahalanobis(wide(train), normalise=False).scores(wide(x))
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    few = Mahalanobis(normal(3, 10)).scores(normal(3, 10))
    assert np.isfinite(few).all()
    np.testing.assert_allclose(few, few[0], rtol=1e-7)  # 3 points are alike to their own covariance


def test_metrics_by_counting() -> None:
    known, novel = np.arange(100.0), np.array([-5.0, 4.0, 5.0, 6.0, 99.0])
    found = out_of_distribution_metrics(known, novel)
    wins = np.mean([(k > n) + (k == n) / 2 for k in known for n in novel])
    assert found["ood_auroc"] == pytest.approx(wins)
    # 95 of 100 known scores are 5 or more, and so are 3 of 5 novel ones.
    assert found["ood_fpr95"] == 0.6
    assert out_of_distribution_metrics(known, novel - 1000) == {"ood_auroc": 1, "ood_fpr95": 0}
    assert out_of_distribution_metrics(known, known + 1000) == {"ood_auroc": 0, "ood_fpr95": 1}
    same = out_of_distribution_metrics(np.ones(7), np.ones(3))
    assert same == {"ood_auroc": 0.5, "ood_fpr95": 1}  # a score that says nothing is no success


def test_novel_classes_score_lower() -> None:
    train, held = normal(200, 8), normal(100, 8, seed=1)
    offset = 4 * np.eye(8)[0]
    model = Mahalanobis(train - offset)
    found = out_of_distribution_metrics(
        model.scores(held - offset), model.scores(normal(100, 8, seed=2) + offset)
    )
    assert found["ood_auroc"] > 0.95
    assert found["ood_fpr95"] < 0.3


def test_bad_input_is_refused() -> None:
    x = normal(6)
    with pytest.raises(UserError, match="1 training features are too few"):
        Mahalanobis(x[:1])
    with pytest.raises(UserError, match="all training features are one point"):
        Mahalanobis(np.tile(x[:1], (5, 1)))
    with pytest.raises(UserError, match="features have 3 dimensions and those of training 4"):
        Mahalanobis(x).scores(x[:, :3])
    broken = x.copy()
    broken[1, 1] = np.nan
    with pytest.raises(UserError, match="1 of 6 recording embeddings contain NaN"):
        Mahalanobis(x).scores(broken)
    with pytest.raises(UserError, match=r"novel scores have shape \(0,\)"):
        out_of_distribution_metrics(np.ones(3), np.ones(0))
    with pytest.raises(UserError, match=r"known scores have shape \(2,\) and 1 NaN"):
        out_of_distribution_metrics(np.array([1, np.nan]), np.ones(3))
