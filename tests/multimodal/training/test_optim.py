"""Decay groups, the schedule in closed form, the moving average against its recursion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from multimodal.training.optim import MovingAverage, learning_rate_factor, parameter_groups


def test_vectors_and_scalars_do_not_decay_and_frozen_ones_are_left_out() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    module[2].requires_grad_(False)
    module.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    decayed, plain = parameter_groups(module, 0.3)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)]
    assert decayed["weight_decay"] == 0.3
    assert sorted(tuple(p.shape) for p in plain["params"]) == [(), (2,), (2,), (2,)]
    assert plain["weight_decay"] == 0.0


def test_warm_up_is_linear_and_the_cosine_ends_at_zero() -> None:
    factors = [learning_rate_factor(s, total=110, warmup=10) for s in range(111)]
    assert factors[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    expected = [0.5 * (1 + math.cos(math.pi * s / 100)) for s in range(101)]
    assert factors[10:] == pytest.approx(expected)
    assert factors[110] == pytest.approx(0, abs=1e-12)
    assert learning_rate_factor(0, total=5, warmup=0) == 1.0


def test_average_follows_its_recursion_and_swaps_in_and_out() -> None:
    module = nn.Linear(2, 1)
    average, shadow = MovingAverage(module, 0.5), module.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            module.weight.add_(torch.randn(1, 2))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        shadow = decay * shadow + (1 - decay) * module.weight.detach()
    own = module.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), shadow)
    assert torch.equal(module.weight, own)
    other = MovingAverage(module, 0.5)
    other.load_state_dict(average.state_dict())
    with other.applied():
        torch.testing.assert_close(module.weight.detach(), shadow)
