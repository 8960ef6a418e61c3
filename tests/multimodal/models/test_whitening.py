"""Whitening: the closed form, the sums, the first recordings, rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multimodal.errors import UserError
from multimodal.models.whitening import Whitening

WIDTH, COUNT, EPS = 6, 80, 0.02


def sample(seed: int = 0, count: int = COUNT) -> Tensor:
    """Far from the origin, variances from 1e-4 to 1e4, and directions that are not the axes."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    return torch.from_numpy(
        rng.normal(size=(count, WIDTH)) * np.geomspace(1e-2, 1e2, WIDTH) @ turn + 50
    )


def root(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and (C + eps u I)^-1/2 of rows, by a singular value decomposition of the rows."""
    middle = x.mean(0)
    _, s, v = np.linalg.svd(x - middle, full_matrices=True)
    variances = np.zeros(x.shape[1])
    variances[: len(s)] = s**2 / len(x)
    return middle, v.T @ np.diag((variances + eps * variances.mean()) ** -0.5) @ v


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 25), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_outputs_are_those_of_the_closed_form(sizes: list[int], seed: int) -> None:
    """For any batches, of the recordings counted when the transform was last made."""
    x, white = sample(seed, sum(sizes)), Whitening(WIDTH, eps=EPS)
    for part in x.split(sizes):
        white.update(part)
    used, seen = int(white.used), x.numpy()
    assert int(white.count) == len(x)
    assert len(x) < 1.05 * used
    np.testing.assert_allclose(white.mean, seen.mean(0), rtol=1e-12, atol=1e-10)
    scatter = (seen - seen.mean(0)).T @ (seen - seen.mean(0))
    np.testing.assert_allclose(white.scatter, scatter, rtol=0, atol=1e-9 * abs(scatter).max())
    if used > 1:
        middle, matrix = root(seen[:used], EPS)
        np.testing.assert_allclose(white.matrix, matrix, rtol=0, atol=1e-4 * abs(matrix).max())
        np.testing.assert_allclose(white(x.float()), (seen - middle) @ matrix, atol=2e-3)


def test_outputs_have_mean_zero_and_the_covariance_that_is_promised() -> None:
    x, white = sample(), Whitening(WIDTH, eps=EPS)
    white.update(x)
    out = white(x.float()).double().numpy()
    covariance = np.cov(x.numpy().T, bias=True)
    floor = EPS * np.trace(covariance) / WIDTH
    expected = covariance @ np.linalg.inv(covariance + floor * np.eye(WIDTH))
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(out.T, bias=True), expected, atol=1e-4)
    assert np.linalg.eigvalsh(expected)[-1] > 0.99
    assert np.linalg.cond(covariance) > 1e5


def test_sums_do_not_lose_digits_far_from_the_origin() -> None:
    x = torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    near, far = Whitening(3), Whitening(3)
    for part in x.split(7):
        near.update(part)
        far.update(part + 1e6)
    torch.testing.assert_close(far.scatter, near.scatter, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_embeddings_does_not_matter(scale: float) -> None:
    outputs = []
    for factor in (1.0, scale):
        white = Whitening(WIDTH)
        white.update(factor * sample())
        outputs.append(white(factor * sample(1).float()))
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-3)


def test_the_first_recordings_are_no_trap() -> None:
    white, x = Whitening(WIDTH), sample()
    assert torch.equal(white(x.float()), x.float())
    white.update(x[:0])
    white.update(x[:1])
    assert torch.equal(white(x[:1].float()).round(decimals=3), torch.zeros(1, WIDTH))
    same = Whitening(WIDTH)
    same.update(x[:1].expand(5, -1))
    assert same(x.float()).isfinite().all()
    with pytest.raises(UserError, match="NaN or infinity"):
        white.update(torch.full((1, WIDTH), torch.nan))
    assert int(white.count) == 1


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 25), min_size=2, max_size=8), seed=st.integers(0, 999))
def test_neither_the_order_nor_the_size_of_batches_matters(sizes: list[int], seed: int) -> None:
    """To rounding, and to what follows from it, once all are counted."""
    x, found = sample(seed, sum(sizes)), []
    for parts in (x.split(sizes), x.split(sizes)[::-1], (x,)):
        white = Whitening(WIDTH, eps=EPS)
        for part in parts:
            white.add(part)
        assert torch.equal(white(x.float()), x.float())  # the identity until it is told
        white.refresh()
        assert (int(white.count), int(white.used)) == (len(x), len(x))
        found.append(white)
    for other in found[1:]:
        torch.testing.assert_close(other.mean, found[0].mean, rtol=1e-12, atol=1e-10)
        torch.testing.assert_close(other(x.float()), found[0](x.float()), rtol=0, atol=1e-3)
    middle, matrix = root(x.numpy(), EPS)
    np.testing.assert_allclose(found[0](x.float()), (x.numpy() - middle) @ matrix, atol=2e-3)


def test_half_precision_around_it_does_not_reach_it() -> None:
    white, x = Whitening(WIDTH, eps=1e-4), sample().float()
    white.update(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = white(x)
    assert torch.equal(found, white(x))
