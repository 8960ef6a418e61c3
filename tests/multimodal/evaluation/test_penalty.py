"""Relative penalties against gradients of InfoNCE, closed forms and their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from multimodal.errors import UserError
from multimodal.evaluation import penalty as module
from multimodal.evaluation.penalty import relative_penalty_entropy


def some(count: int = 9, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, count, width, generator=random, dtype=torch.float64)
    return x, y


def test_shares_are_those_of_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    x, y = some()
    cosines = (normalize(x) @ normalize(y).T).requires_grad_()
    cross_entropy(cosines / 0.2, torch.arange(9), reduction="sum").backward()
    assert cosines.grad is not None
    entropies = []
    for i in range(9):
        push = np.delete(cosines.grad[i].numpy(), i)
        shares = push / push.sum()
        entropies.append(-np.sum(shares * np.log(shares)))
    entropy, share = relative_penalty_entropy(x, y, temperature=0.2)
    assert entropy == pytest.approx(np.mean(entropies))
    assert share == pytest.approx(np.mean(np.exp(entropies)) / 8)


def test_from_one_negative_to_all_alike() -> None:
    x, y = some()
    assert relative_penalty_entropy(x, y, temperature=1e-4) == (
        pytest.approx(0, abs=1e-6),
        pytest.approx(1 / 8),
    )
    warm = relative_penalty_entropy(x, y, temperature=1e6)
    assert warm == (pytest.approx(math.log(8)), pytest.approx(1))
    cold = [relative_penalty_entropy(x, y, temperature=t)[0] for t in (0.05, 0.1, 0.2, 0.5)]
    assert cold == sorted(cold)
    same = np.tile([0.6, 0.8], (5, 1))  # a collapsed tower pushes all alike
    assert relative_penalty_entropy(same, same, temperature=0.01)[1] == pytest.approx(1)
    assert relative_penalty_entropy(x[:2], y[:2], temperature=0.1) == (0, 1)


def test_bad_input_is_refused() -> None:
    x, y = some()
    for temperature in (0, -1, math.nan, math.inf):
        with pytest.raises(UserError, match=r"temperature is .*above 0"):
            relative_penalty_entropy(x, y, temperature=temperature)
    with pytest.raises(UserError, match="1 signals and 1 texts; give 2 or more"):
        relative_penalty_entropy(x[:1], y[:1], temperature=0.1)
    with pytest.raises(UserError, match="9 signals and 5 texts"):
        relative_penalty_entropy(x, y[:5], temperature=0.1)
    with pytest.raises(UserError, match="1 of 9 text embeddings contain NaN"):
        relative_penalty_entropy(
            x, y * torch.where(torch.arange(9)[:, None] == 2, torch.nan, 1), temperature=1
        )
