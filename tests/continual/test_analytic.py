from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from continual.analytic import RecursiveLeastSquares, StreamingLda, recursive_step

WIDTH, CLASSES = 5, 4


def sample(seed: int, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES - 1, count)  # the last class is never met
    labels[: CLASSES - 1] = np.arange(CLASSES - 1)
    features = rng.normal(size=(count, WIDTH)) + 3 * np.eye(CLASSES, WIDTH)[labels]
    return torch.tensor(features), torch.tensor(labels)


def fed(model, features, targets, size: int):
    for f, y in zip(features.split(size), targets.split(size), strict=True):
        model.update(f, y)
    return model


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), size=st.integers(1, 40), by_class=st.booleans())
def test_streaming_lda_is_the_batch_formula(seed: int, size: int, by_class: bool) -> None:
    features, labels = sample(seed)
    if by_class:
        order = labels.argsort(stable=True)
        features, labels = features[order], labels[order]
    model = fed(StreamingLda(WIDTH, CLASSES), features, labels, size)
    x, y = features.numpy(), labels.numpy()
    met = [c for c in range(CLASSES) if (y == c).any()]
    means = np.stack([x[y == c].mean(0) if c in met else np.zeros(WIDTH) for c in range(CLASSES)])
    scatter = sum(np.outer(row - means[c], row - means[c]) for row, c in zip(x, y, strict=True))
    np.testing.assert_allclose(model.means.numpy(), means, atol=1e-12)
    np.testing.assert_allclose(model.scatter.numpy(), scatter, atol=1e-10)
    precision = np.linalg.inv((1 - 1e-4) * scatter / len(x) + 1e-4 * np.eye(WIDTH))
    scores = x @ precision @ means.T - 0.5 * np.sum(means @ precision * means, axis=1)
    found = model.scores(features).numpy()
    np.testing.assert_allclose(found[:, met], scores[:, met], rtol=1e-4, atol=1e-4)
    assert np.isinf(found[:, [c for c in range(CLASSES) if c not in met]]).all()


def test_the_published_covariance_is_a_plain_loop_and_another_one() -> None:
    features, labels = sample(1)
    model = fed(StreamingLda(WIDTH, CLASSES, sigma="published"), features, labels, 7)
    sigma, means, counts = np.zeros((WIDTH, WIDTH)), np.zeros((CLASSES, WIDTH)), np.zeros(CLASSES)
    for n, (row, c) in enumerate(zip(features.numpy(), labels.tolist(), strict=True)):
        d = row - means[c]
        sigma = (n * sigma + np.outer(d, d) * n / (n + 1)) / (n + 1)
        means[c] += d / (counts[c] + 1)
        counts[c] += 1
    np.testing.assert_allclose(model.scatter.numpy() / len(features), sigma, atol=1e-12)
    exact = fed(StreamingLda(WIDTH, CLASSES), features, labels, 7).scatter / len(features)
    assert np.linalg.norm(sigma - exact.numpy()) > 0.1 * np.linalg.norm(exact.numpy())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), size=st.integers(1, 40), ridge=st.sampled_from([0.1, 100.0]))
def test_least_squares_are_the_batch_ridge_and_the_recursion(
    seed: int, size: int, ridge: float
) -> None:
    features, labels = sample(seed)
    model = RecursiveLeastSquares(WIDTH, CLASSES, hidden=12, ridge=ridge, seed=3)
    fed(model, features, labels, size)
    assert model.projection is not None
    x = (features @ model.projection).relu()
    y = torch.nn.functional.one_hot(labels, CLASSES).double()
    weight = torch.linalg.solve(x.T @ x + ridge * torch.eye(12).double(), x.T @ y)
    met = [0, 1, 2]
    scores = model.scores(features)
    torch.testing.assert_close(scores[:, met], (x @ weight)[:, met].float(), rtol=1e-5, atol=1e-6)
    assert torch.isinf(scores[:, 3]).all()
    inverse, step = torch.eye(12).double() / ridge, torch.zeros(12, CLASSES).double()
    for a, b in zip(x.split(size), y.split(size), strict=True):
        inverse, step = recursive_step(inverse, step, a, b)
    torch.testing.assert_close(step, weight, rtol=1e-6, atol=1e-8)


def test_order_and_repeats_of_least_squares() -> None:
    features, labels = sample(5)
    make = lambda **kw: RecursiveLeastSquares(WIDTH, CLASSES, hidden=12, seed=3, **kw)  # noqa: E731
    plain = fed(make(ridge=9.0), features, labels, 8).scores(features)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    mixed = fed(make(ridge=9.0), features[order], labels[order], 3).scores(features)
    torch.testing.assert_close(mixed, plain)
    repeated = fed(make(ridge=27.0, repeat=3), features, labels, 8).scores(features)
    torch.testing.assert_close(repeated, plain)


def test_least_squares_of_several_labels() -> None:
    features, _ = sample(6)
    targets = (torch.rand(40, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    targets[:, 3] = 0
    model = fed(
        RecursiveLeastSquares(WIDTH, CLASSES, hidden=None, ridge=1.0, seed=0), features, targets, 9
    )
    x = features
    weight = torch.linalg.solve(x.T @ x + torch.eye(WIDTH).double(), x.T @ targets)
    torch.testing.assert_close(model.scores(x)[:, :3], (x @ weight)[:, :3].float())
    assert torch.isinf(model.scores(x)[:, 3]).all()
    targets[0, 0] = torch.nan
    with pytest.raises(ValueError, match="unknown"):
        model.update(features, targets)


@pytest.mark.parametrize("kind", ["lda", "rls"])
def test_resumed_equals_uninterrupted(kind: str) -> None:
    features, labels = sample(7)

    def make():
        if kind == "lda":
            return StreamingLda(WIDTH, CLASSES)
        return RecursiveLeastSquares(WIDTH, CLASSES, hidden=12, seed=3)

    whole = fed(make(), features, labels, 4)
    half, rest = fed(make(), features[:20], labels[:20], 4), make()
    half.scores(features)
    rest.load_state_dict(half.state_dict())
    fed(rest, features[20:], labels[20:], 4)
    assert torch.equal(whole.scores(features), rest.scores(features))
