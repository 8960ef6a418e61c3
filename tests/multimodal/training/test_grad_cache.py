"""Gradients in parts are those of the whole batch, with dropout too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from multimodal.objectives import Loss
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.cwcl import cwcl
from multimodal.training.grad_cache import backward_in_parts


class Model(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 4))
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.double()

    def embed(self, part: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.net(part[0]), part[1]  # the second side is frozen

    def loss(self, embeddings: tuple[Tensor, ...]) -> Loss:
        return cwcl(*embeddings, self.log_scale.exp())


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    shapes = ((10, 5), (10, 4))
    return tuple(torch.randn(s, generator=random, dtype=torch.float64) for s in shapes)  # pyright: ignore


@pytest.mark.parametrize("size", [1, 3, 5, 10])
def test_equals_the_whole_batch(pairs, size: int) -> None:
    whole, parted = Model(0.0), Model(0.0)
    expected = whole.loss(whole.embed(pairs))
    expected.value.backward()
    parts = list(zip(*(x.split(size) for x in pairs), strict=True))
    loss, embeddings = backward_in_parts(
        parted.embed, parted.loss, parts, backward=lambda x: x.backward()
    )
    assert loss.value.item() == pytest.approx(expected.value.item(), rel=1e-12)
    assert not any(x.requires_grad for x in (*embeddings, loss.value))
    for a, b in zip(whole.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)


def test_both_passes_drop_the_same_units(pairs) -> None:
    """The oracle embeds part by part with one graph, from the same random state."""
    oracle, parted = Model(0.5), Model(0.5)
    parts = list(zip(*(x.split(4) for x in pairs), strict=True))
    torch.manual_seed(7)
    sides = zip(*(oracle.embed(part) for part in parts), strict=True)
    oracle.loss(tuple(torch.cat(side) for side in sides)).value.backward()
    after = torch.get_rng_state()
    torch.manual_seed(7)
    backward_in_parts(parted.embed, parted.loss, parts, backward=lambda x: x.backward())
    assert torch.equal(torch.get_rng_state(), after)
    for a, b in zip(oracle.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)


def test_two_trained_sides() -> None:
    torch.manual_seed(0)
    nets = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)]).double()
    x = torch.randn(6, 3, dtype=torch.float64)

    def embed(part: Tensor) -> tuple[Tensor, ...]:
        return tuple(net(part) for net in nets)

    def loss(sides: tuple[Tensor, ...]) -> Loss:
        return info_nce(*sides, torch.tensor(5.0))

    loss(embed(x)).value.backward()
    expected = [p.grad for p in nets.parameters()]
    nets.zero_grad()
    backward_in_parts(embed, loss, x.split(2), backward=lambda v: v.backward())
    for p, grad in zip(nets.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-10, atol=1e-12)
