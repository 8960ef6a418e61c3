"""Closed-form classifiers against batch formulas in NumPy, plain loops and the recursion."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from continual.analytic import RecursiveLeastSquares, StreamingLda, recursive_step
from multimodal.errors import UserError

WIDTH, CLASSES, HIDDEN, COUNT = 5, 4, 12, 40
MET = [0, 2, 3]  # class 1 is never met
ORDERS = ("shuffled", "sorted", "reversed")
Model = StreamingLda | RecursiveLeastSquares

MAKERS: dict[str, Callable[[], Model]] = {
    "lda": lambda: StreamingLda(WIDTH, CLASSES),
    "published": lambda: StreamingLda(WIDTH, CLASSES, sigma="published"),
    "rls": lambda: RecursiveLeastSquares(WIDTH, CLASSES, hidden=HIDDEN, seed=3),
    "rls_multi_label": lambda: RecursiveLeastSquares(WIDTH, CLASSES, hidden=None, seed=3),
    "rls_fixed": lambda: RecursiveLeastSquares(WIDTH, CLASSES, hidden=None, ridge=9.0, seed=3),
}
every_model = pytest.mark.parametrize("kind", sorted(MAKERS))
every_stream = given(
    seed=st.integers(0, 9999), size=st.integers(1, COUNT), order=st.sampled_from(ORDERS)
)


def sample(seed: int, order: str = "shuffled") -> tuple[Tensor, Tensor]:
    """COUNT recordings, far from the origin; every class of MET among them, one of them once."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([3, *rng.choice(MET[:2], COUNT - 3), *MET[:2]])
    if order != "shuffled":
        labels = np.sort(labels)[:: 1 if order == "sorted" else -1].copy()
    features = 4 + rng.normal(size=(COUNT, WIDTH)) + 3 * np.eye(CLASSES, WIDTH)[labels]
    return torch.from_numpy(features), torch.from_numpy(labels)


def several(labels: Tensor) -> Tensor:
    """0/1 targets: class 0 beside each class 3, none for every fifth recording."""
    targets = one_hot(labels, CLASSES).double()
    targets[labels == 3, 0] = 1
    targets[4::5] = 0
    return targets


def fed(model: Any, features: Tensor, targets: Tensor, size: int) -> Any:
    for f, y in zip(features.split(size), targets.split(size), strict=True):
        model.update(f, y)
    return model


def least_squares(**fields: Any) -> RecursiveLeastSquares:
    return RecursiveLeastSquares(WIDTH, CLASSES, **{"hidden": HIDDEN, "seed": 3, **fields})


def ridge_weight(x: Tensor, y: Tensor, ridge: float) -> np.ndarray:
    """Ridge as ordinary least squares on augmented rows: no normal equations."""
    rows = np.vstack([x.numpy(), math.sqrt(ridge) * np.eye(x.shape[1])])
    right = np.vstack([y.double().numpy(), np.zeros((x.shape[1], y.shape[1]))])
    return np.linalg.lstsq(rows, right, rcond=None)[0]


def lda_scores(x: np.ndarray, means: np.ndarray, sigma: np.ndarray, e: float) -> np.ndarray:
    precision = np.linalg.inv((1 - e) * sigma + e * np.eye(WIDTH))
    return x @ precision @ means.T - np.einsum("ci,ij,cj->c", means, precision, means) / 2


def assert_scores(found: Tensor, expected: np.ndarray, met: list[int]) -> None:
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    scale = np.abs(expected[:, met]).max()
    np.testing.assert_allclose(found[:, met], expected[:, met], rtol=1e-6, atol=1e-6 * scale)
    unmet = [c for c in range(CLASSES) if c not in met]
    assert (found[:, unmet] == -math.inf).all()


@settings(max_examples=60, deadline=None)
@every_stream
def test_streaming_lda_is_the_batch_formula(seed: int, size: int, order: str) -> None:
    features, labels = sample(seed, order)
    model = fed(StreamingLda(WIDTH, CLASSES, shrinkage=0.01), features, labels, size)
    x, y = features.numpy(), labels.numpy()
    means = np.stack([x[y == c].mean(0) if c in MET else np.zeros(WIDTH) for c in range(CLASSES)])
    scatter = (x - means[y]).T @ (x - means[y])
    np.testing.assert_allclose(model.counts, np.bincount(y, minlength=CLASSES), rtol=0)
    np.testing.assert_allclose(model.means, means, atol=1e-13)
    np.testing.assert_allclose(model.scatter, scatter, rtol=1e-11, atol=1e-11)
    assert_scores(model.scores(features), lda_scores(x, means, scatter / COUNT, 0.01), MET)


@settings(max_examples=20, deadline=None)
@every_stream
def test_published_covariance_is_the_plain_loop(seed: int, size: int, order: str) -> None:
    """And not the pooled covariance, which the exact form gives."""
    features, labels = sample(seed, order)
    form: Any = {"sigma": "published", "shrinkage": 1e-4}
    model = fed(StreamingLda(WIDTH, CLASSES, **form), features, labels, size)
    exact = fed(StreamingLda(WIDTH, CLASSES), features, labels, size)
    sigma, means, counts = np.zeros((WIDTH, WIDTH)), np.zeros((CLASSES, WIDTH)), np.zeros(CLASSES)
    for n, (row, c) in enumerate(zip(features.numpy(), labels.tolist(), strict=True)):
        d = row - means[c]
        sigma = (n * sigma + np.outer(d, d) * n / (n + 1)) / (n + 1)
        means[c] += d / (counts[c] + 1)
        counts[c] += 1
    np.testing.assert_allclose(model.scatter / COUNT, sigma, rtol=1e-11, atol=1e-11)
    assert_scores(model.scores(features), lda_scores(features.numpy(), means, sigma, 1e-4), MET)
    torch.testing.assert_close(exact.means, model.means)
    pooled = exact.scatter.numpy() / COUNT
    assert np.linalg.norm(sigma - pooled) > 0.3 * np.linalg.norm(pooled)


@settings(max_examples=60, deadline=None)
@every_stream
@pytest.mark.parametrize("multi_label", [False, True])
def test_least_squares_is_batch_ridge_and_recursion(
    multi_label: bool, seed: int, size: int, order: str
) -> None:
    """Whatever the batches, the order and the arrival of classes."""
    features, labels = sample(seed, order)
    y = several(labels) if multi_label else one_hot(labels, CLASSES).double()
    model = fed(least_squares(ridge=0.7), features, y if multi_label else labels, size)
    assert model.projection is not None
    x = (features @ model.projection).clamp(min=0)
    weight = ridge_weight(x, y, 0.7)
    np.testing.assert_allclose(model.weight, weight, atol=1e-8)
    assert_scores(model.scores(features), (x @ torch.from_numpy(weight)).numpy(), met_in(y))
    inverse, step = torch.eye(HIDDEN).double() / 0.7, torch.zeros(HIDDEN, CLASSES).double()
    for rows, targets in zip(x.split(size), y.split(size), strict=True):
        inverse, step = recursive_step(inverse, step, rows, targets)
    torch.testing.assert_close(model.weight, step, rtol=0, atol=1e-8)
    full = torch.linalg.inv(x.T @ x + 0.7 * torch.eye(HIDDEN).double())
    torch.testing.assert_close(inverse, full, rtol=0, atol=1e-8)


def met_in(targets: Tensor) -> list[int]:
    return (targets == 1).any(0).nonzero().flatten().tolist()


@pytest.mark.parametrize("hidden", [None, HIDDEN])
def test_repeats_are_a_smaller_ridge(hidden: int | None) -> None:
    """Feeding every batch three times, repeat=3 and a third of the ridge are one thing."""
    features, labels = sample(5)
    third = fed(least_squares(hidden=hidden, ridge=9.0), features, labels, 8)
    counted = fed(least_squares(hidden=hidden, ridge=27.0, repeat=3), features, labels, 8)
    thrice = least_squares(hidden=hidden, ridge=27.0)
    for f, y in zip(features.split(8), labels.split(8), strict=True):
        for _ in range(3):
            thrice.update(f, y)
    for other in (counted, thrice):
        torch.testing.assert_close(other.weight, third.weight, rtol=0, atol=1e-10)
    once = fed(least_squares(hidden=hidden, ridge=27.0), features, labels, 8)
    assert not torch.allclose(once.weight, third.weight, atol=1e-3)


def test_without_random_features() -> None:
    features, labels = sample(6)
    model = fed(least_squares(hidden=None, ridge=100.0), features, labels, 9)
    assert model.projection is None
    weight = ridge_weight(features, one_hot(labels, CLASSES), 100.0)
    np.testing.assert_allclose(model.weight, weight, atol=1e-10)


def test_random_features_have_their_own_seed() -> None:
    drawn = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        before = torch.manual_seed(global_seed).get_state()
        model = RecursiveLeastSquares(16, 2, hidden=2000, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        assert model.projection is not None
        drawn.append(model.projection)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    # Uniform in +-1/4: its ends are reached, its variance is (1/4)^2 / 3.
    assert 0.2499 < drawn[0].abs().max() <= 0.25
    assert abs(float(drawn[0].square().mean()) - 1 / 48) < 4e-4


@every_model
def test_classes_not_met_score_minus_infinity(kind: str) -> None:
    """Before any recording, after a first batch of one, and once the others arrive."""
    features, labels = sample(2, "sorted")
    model = MAKERS[kind]()
    targets = one_hot(labels, CLASSES).double() if kind == "rls_multi_label" else labels
    assert (model.scores(features) == -math.inf).all()
    for i in range(COUNT):
        model.update(features[i : i + 1].float(), targets[i : i + 1])
        scores, met = model.scores(features.float()), labels[: i + 1].unique().tolist()
        assert scores[:, met].isfinite().all()
        assert (scores[:, [c for c in range(CLASSES) if c not in met]] == -math.inf).all()
    if kind != "published":
        whole = MAKERS[kind]()
        whole.update(features.float(), targets)
        torch.testing.assert_close(whole.scores(features), model.scores(features))


@every_model
def test_empty_batches_change_nothing(kind: str) -> None:
    features, labels = sample(2)
    targets = several(labels) if kind == "rls_multi_label" else labels
    model = fed(MAKERS[kind](), features, targets, 9)
    before = model.state_dict()
    model.update(features[:0], targets[:0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.scores(features[:0]).shape == (0, CLASSES)


@every_model
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), size=st.integers(1, 9), cut=st.integers(0, COUNT))
def test_resumed_equals_uninterrupted(kind: str, seed: int, size: int, cut: int) -> None:
    """Bit for bit, and asking for scores in between makes no difference."""
    features, labels = sample(seed)
    targets = several(labels) if kind == "rls_multi_label" else labels
    whole, resumed = MAKERS[kind](), fed(MAKERS[kind](), features, targets, 7)
    for f, y in zip(features[:cut].split(size), targets[:cut].split(size), strict=True):
        whole.update(f, y)
    torch.save(whole.state_dict(), file := io.BytesIO())
    resumed.scores(features)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert torch.equal(whole.scores(features), resumed.scores(features))
    for f, y in zip(features[cut:].split(size), targets[cut:].split(size), strict=True):
        whole.update(f, y)
        resumed.scores(features)
        resumed.update(f, y)
    assert torch.equal(whole.scores(features), resumed.scores(features))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


@every_model
def test_states_are_copies_and_are_checked(kind: str) -> None:
    features, labels = sample(4)
    targets = several(labels) if kind == "rls_multi_label" else labels
    model = fed(MAKERS[kind](), features, targets, 8)
    before, given_away, loaded = (model.state_dict() for _ in range(3))
    model.load_state_dict(loaded)
    for value in (*given_away.values(), *loaded.values()):
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.update(features, targets)
    assert not any(value.any() for value in loaded.values())
    before = model.state_dict()
    wider = StreamingLda(WIDTH + 1, CLASSES).state_dict()
    for other in (wider, {**before, "means": torch.zeros(1)}, {}):
        with pytest.raises(UserError, match=f"does not fit {type(model).__name__}"):
            model.load_state_dict(other)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


ONE = torch.ones(1, CLASSES)
BAD_UPDATES: list[Any] = [
    ("lda", torch.ones(2, WIDTH), torch.tensor([0]), r"labels must be \(2,\) integers, got \(1,\)"),
    ("lda", torch.ones(1, WIDTH), torch.tensor([0.0]), "integers, got .*float32"),
    ("lda", torch.ones(1, WIDTH), torch.tensor([CLASSES]), r"in \[0, 4\), got \[4\]"),
    ("published", torch.ones(2, WIDTH), torch.tensor([0, -1]), r"in \[0, 4\), got \[-1, 0\]"),
    ("published", torch.ones(1, 1), torch.tensor([0]), r"features must be \(N, 5\)"),
    ("lda", torch.full((1, WIDTH), math.inf), torch.tensor([0]), "without NaN or infinity"),
    ("rls", torch.full((1, WIDTH), math.nan), torch.tensor([0]), "without NaN or infinity"),
    ("rls", torch.ones(1, WIDTH), torch.tensor([-1]), r"in \[0, 4\)"),
    ("rls", torch.ones(2, WIDTH), ONE, r"targets must be \(2, 4\), got \(1, 4\)"),
    ("rls", torch.ones(1, WIDTH), ONE / 2, "targets must be 0 or 1"),
    ("rls", torch.ones(1, WIDTH), ONE * math.nan, "unknown labels .* cannot be regressed on"),
]


@pytest.mark.parametrize(("kind", "features", "targets", "words"), BAD_UPDATES)
def test_bad_updates_change_nothing(
    kind: str, features: Tensor, targets: Tensor, words: str
) -> None:
    model = fed(MAKERS[kind](), *sample(1), 8)
    before = model.state_dict()
    with pytest.raises(ValueError, match=words):
        model.update(features, targets)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bad_settings() -> None:
    for fields in ({"hidden": 0}, {"ridge": 0.0}, {"repeat": 0}):
        with pytest.raises(UserError, match="must be at least 1, ridge above 0"):
            least_squares(**fields)
    for fields in ({"shrinkage": 0.0}, {"sigma": "exakt"}):
        with pytest.raises(UserError, match="must be"):
            StreamingLda(WIDTH, CLASSES, **fields)  # type: ignore[arg-type]
