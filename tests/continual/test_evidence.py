"""Shrinkage by marginal likelihood: against densities of SciPy, and what it must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import invwishart, multivariate_normal
from torch.nn.functional import one_hot

from continual.analytic import RecursiveLeastSquares, StreamingLda
from continual.evidence import PRIORS, RIDGES, evidence_ridge, evidence_shrinkage


def likelihood_of_ridge(x: np.ndarray, y: np.ndarray, ridge: float) -> float:
    """Log density of all columns of y, with the noise at its own maximum."""
    n = len(x)
    covariance = np.eye(n) + x @ x.T / ridge
    noise = float(np.mean([c @ np.linalg.solve(covariance, c) / n for c in y.T]))
    given: Any = multivariate_normal(np.zeros(n), noise * covariance)  # pyright: ignore
    return sum(given.logpdf(c) for c in y.T)


@pytest.mark.parametrize(("count", "hidden"), [(60, 8), (12, 30)])
@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
def test_ridge_is_that_of_greatest_likelihood(count: int, hidden: int, noise: float) -> None:
    rng = np.random.default_rng(count)
    x = rng.normal(size=(count, hidden)) * np.geomspace(3, 0.1, hidden)
    y = x @ rng.normal(size=(hidden, 3)) + noise * rng.normal(size=(count, 3))
    gram, cross = torch.from_numpy(x.T @ x), torch.from_numpy(x.T @ y)
    cross = torch.cat([cross, torch.zeros(hidden, 2).double()], dim=1)  # classes not met
    ridge, weight = evidence_ridge(gram, cross, squares=float((y**2).sum()), count=count, classes=3)
    grid = RIDGES.numpy() * np.trace(x.T @ x) / hidden
    found = [likelihood_of_ridge(x, y, r) for r in grid]
    assert found[int(np.argmin(abs(grid - ridge)))] > max(found) - 1e-3  # flat, or the maximum
    if count > hidden:
        assert ridge == pytest.approx(grid[np.argmax(found)])
    augmented = np.vstack([x, np.sqrt(ridge) * np.eye(hidden)])
    expected = np.linalg.lstsq(augmented, np.vstack([y, np.zeros((hidden, 3))]), rcond=None)[0]
    np.testing.assert_allclose(weight[:, :3], expected, atol=1e-7)
    assert not weight[:, 3:].any()


def likelihood_of_prior(x: np.ndarray, worth: float) -> float:
    """Log density of the rows of x, by Bayes' rule at one covariance (any will do)."""
    count, size = x.shape
    scatter, nu = x.T @ x, size + 1 + worth
    prior = worth * np.trace(scatter) / (size * count) * np.eye(size)
    at = np.diag(np.linspace(0.5, 2, size))
    given: Any = multivariate_normal(np.zeros(size), at)  # pyright: ignore
    before = invwishart.logpdf(at, nu, prior)
    return given.logpdf(x).sum() + before - invwishart.logpdf(at, nu + count, prior + scatter)


@pytest.mark.parametrize("count", [3, 9, 200])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_shrinkage_is_that_of_greatest_likelihood(count: int, spread: float) -> None:
    x = np.random.default_rng(count).normal(size=(count, 6)) * np.geomspace(1, spread, 6)
    share = evidence_shrinkage(torch.from_numpy(x.T @ x), count)
    best = PRIORS[int(np.argmax([likelihood_of_prior(x, float(a)) for a in PRIORS]))]
    assert share == pytest.approx(float(best / (best + count)))


def test_shrinkage_follows_what_there_is_to_know() -> None:
    rng = np.random.default_rng(0)
    alike = rng.normal(size=(100, 8))
    apart = alike * np.geomspace(1, 100, 8)
    shares = [evidence_shrinkage(torch.from_numpy(x.T @ x), len(x)) for x in (alike, apart)]
    assert shares[0] > 0.8
    assert shares[1] < 0.01
    early = apart[:4]
    assert evidence_shrinkage(torch.from_numpy(early.T @ early), 4) > shares[1]
    assert evidence_shrinkage(torch.zeros(3, 3).double(), 5) == 1
    assert evidence_shrinkage(torch.eye(3).double(), 0) == 1


MAKERS: dict[str, Any] = {
    "slda": lambda: StreamingLda(5, 3),
    "published": lambda: StreamingLda(5, 3, sigma="published"),
    "rls": lambda: RecursiveLeastSquares(5, 3, hidden=20, seed=1),
    "plain rls": lambda: RecursiveLeastSquares(5, 3, hidden=None, seed=1),
}


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("count", [1, 2, 7, 60])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_answers_do_not_depend_on_the_scale_of_features(
    kind: str, count: int, scale: float
) -> None:
    """An encoder's unit is no reason for another answer: nothing is chosen in units of its own."""
    rng = np.random.default_rng(7)
    labels = torch.as_tensor(rng.integers(0, 3, 90))
    features = torch.as_tensor(rng.normal(size=(90, 5))) + 2 * torch.eye(3, 5)[labels]
    answers = []
    for factor in (1.0, scale):
        model = MAKERS[kind]()
        model.update(factor * features[:count], labels[:count])
        answers.append(model.scores(factor * features[60:]).argmax(1))
    if not (kind in ("slda", "published") and count == 1):  # one class: one answer anyway
        assert torch.equal(*answers)
    assert len(answers[0]) == 30


@pytest.mark.parametrize("kind", ["rls", "plain rls"])
def test_what_a_recording_counts_for_does_not_matter(kind: str) -> None:
    """With a ridge chosen from the same sums, ``repeat`` cancels out."""
    rng = np.random.default_rng(3)
    labels, features = torch.as_tensor(rng.integers(0, 3, 40)), torch.randn(40, 5).double()
    hidden = 20 if kind == "rls" else None
    once, thrice = (
        RecursiveLeastSquares(5, 3, hidden=hidden, repeat=repeat, seed=1) for repeat in (1, 3)
    )
    for model in (once, thrice):
        model.update(features, one_hot(labels, 3))
    torch.testing.assert_close(once.weight, thrice.weight)
