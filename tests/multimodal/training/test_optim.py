"""Decay groups, the schedule in closed form, the moving average against its recursion."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from multimodal.training.optim import (
    MovingAverage,
    learning_rate_factor,
    load_optimizer,
    parameter_groups,
)


class Everything(nn.Module):
    """A parameter of every kind; those that decay are named in ``DECAYING``."""

    DECAYING = ("linear.weight", "conv.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0")
    DECAYING += ("attention.in_proj_weight", "attention.out_proj.weight")

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(4, 4), nn.Conv1d(4, 4, 3)
        self.rnn = nn.GRU(4, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True)
        self.norm, self.table = nn.LayerNorm(4), nn.Embedding(3, 4)
        self.positions = nn.Parameter(torch.randn(1, 5, 4))
        self.prompts = nn.Parameter(torch.randn(2, 5, 4))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv((self.linear(x) + self.positions).mT).mT
        y = torch.cat([self.rnn(y)[0], self.prompts[0].expand(len(x), -1, -1)], dim=1)
        y = self.attention(y, y, y)[0] + self.table.weight.sum(0)
        return (self.scale * self.norm(y)).square().sum() + y.sum()


def names(module: nn.Module, group: dict[str, Any]) -> set[str]:
    known = {id(p): name for name, p in module.named_parameters()}
    return {known[id(p)] for p in group["params"]}


def test_matrices_of_layers_decay_and_nothing_else() -> None:
    module = Everything()
    decayed, plain = parameter_groups(module, 0.3)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert names(module, decayed) == set(Everything.DECAYING)
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert names(module, plain) == trained - set(Everything.DECAYING)


def test_groups_without_a_parameter_are_left_out() -> None:
    assert parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.1) == []
    assert len(parameter_groups(nn.LayerNorm(2), 0.1)) == 1
    assert len(parameter_groups(nn.Linear(2, 2, bias=False), 0.1)) == 1


@pytest.mark.parametrize("dimensions", [None, 1, 2])
def test_a_checkpoint_goes_on_with_the_groups_that_it_was_begun_with(dimensions) -> None:
    """dimensions: those from which on a parameter decayed in an earlier version; None: as now."""
    batch = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))

    def begin() -> tuple[Everything, torch.optim.AdamW]:
        torch.manual_seed(0)
        module = Everything()
        groups = parameter_groups(module, 0.5)
        if dimensions is not None:
            trained = [p for p in module.parameters() if p.requires_grad]
            groups = [
                {"params": [p for p in trained if p.ndim >= dimensions], "weight_decay": 0.5},
                {"params": [p for p in trained if p.ndim < dimensions], "weight_decay": 0.0},
            ]
        return module, torch.optim.AdamW(groups, lr=0.1)

    def step(module: Everything, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        module(batch).backward()
        optimizer.step()

    whole, optimizer = begin()
    for _ in range(4):
        step(whole, optimizer)
    begun, optimizer = begin()
    step(begun, optimizer)
    step(begun, optimizer)
    resumed = torch.optim.AdamW(parameter_groups(begun, 0.5), lr=0.1)
    load_optimizer(resumed, begun, optimizer.state_dict())
    step(begun, resumed)
    step(begun, resumed)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, begun.get_parameter(name)), name


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
