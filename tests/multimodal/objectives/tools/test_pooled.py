"""Pooled sums of softplus against all pairs one by one, value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multimodal.objectives.tools.pooled import (
    intervals_of,
    moments,
    number_above,
    sum_of_softplus,
)

LIMIT = 100.0


def drawn(seed: int, spread: float, middle: float) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(9, 11, generator=random, dtype=torch.float64)
    positives = middle + spread * torch.randn(7, generator=random, dtype=torch.float64)
    mask = torch.rand(9, 11, generator=random) < 0.7
    return scores.clamp(-LIMIT, LIMIT), positives.clamp(-LIMIT, LIMIT), mask


def slow(scores: Tensor, positives: Tensor, mask: Tensor) -> tuple[float, np.ndarray, np.ndarray]:
    """Sum, and its gradients, by NumPy in float64."""
    margins = scores.double().numpy()[..., None] - positives.double().numpy()
    weight = mask.numpy()[..., None]
    slopes = weight * np.exp(-np.logaddexp(0, -margins))
    value = float((weight * np.logaddexp(0, margins)).sum())
    return value, slopes.sum(2), -slopes.sum((0, 1))


# Float32 rounds the scores themselves: at 100 by 4e-6.
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-11), (torch.float32, 1e-6)])
@pytest.mark.parametrize("tile", [None, 1000])
@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([1e-3, 0.3, 4.0, 60.0]),
    middle=st.sampled_from([-80.0, 0.0, 30.0]),
)
def test_value_and_gradients_are_those_of_all_pairs(dtype, rel, tile, seed, spread, middle) -> None:
    """Also where all is tiny: positives far above all scores."""
    scores, positives, mask = drawn(seed, spread, middle)
    scores, positives = (x.to(dtype).requires_grad_() for x in (scores, positives))
    of = intervals_of(LIMIT, dtype)
    value = sum_of_softplus(moments(scores, mask, of), positives, of, tile=tile)
    found = torch.autograd.grad(value, (scores, positives))
    expected = slow(scores.detach(), positives.detach(), mask)
    assert value.item() == pytest.approx(expected[0], rel=rel)
    for ours, theirs in zip(found, expected[1:], strict=True):
        np.testing.assert_allclose(ours.double(), theirs, rtol=20 * rel, atol=1e-38)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), whole=st.booleans(), limit=st.sampled_from([LIMIT, 1500.0, 0.4]))
def test_the_number_above_is_exact_also_with_ties(seed: int, whole: bool, limit: float) -> None:
    scores, positives, mask = drawn(seed, limit / 4, limit / 10)
    scores, positives = (x.clamp(-limit, limit) for x in (scores, positives))
    if whole:
        scores, positives = scores.round(), positives.round()
    expected = ((positives > scores[..., None]) & mask[..., None]).sum()
    of = intervals_of(limit, torch.float64)
    assert number_above(scores, mask, positives, of) == expected


def test_a_score_that_is_no_number_makes_the_sum_none() -> None:
    scores, positives, mask = drawn(0, 3.0, 0.0)
    scores[2, 3], mask[2, 3] = torch.nan, True
    of = intervals_of(LIMIT, scores.dtype)
    assert sum_of_softplus(moments(scores, mask, of), positives, of, tile=None).isnan()
    mask[2, 3] = False
    assert sum_of_softplus(moments(scores, mask, of), positives, of, tile=None).isfinite()
