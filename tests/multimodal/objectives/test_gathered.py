"""Losses of a batch that several processes share: the mean of their gradients is that of one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from multimodal.objectives.behaviour import hard_contrastive, simple_contrastive
from multimodal.objectives.clip_rocket import barlip, siamlip, swalip
from multimodal.objectives.cua import cua
from multimodal.objectives.degla import Seen, degla
from multimodal.objectives.graded import pearson, pro, rank_kl
from multimodal.objectives.palm import palm
from multimodal.objectives.sepclr import sepclr
from tests.multimodal.objectives.tools.gloo import in_processes

N = 12
IDS = torch.tensor([0, 0, 1, 2, 3, 4, 0, 2, 1, 2, 2, 3])
# Of two processes, one holds more rows that take part.
SOME = torch.tensor([1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 0]).bool()
random = torch.Generator().manual_seed(0)
INPUTS = torch.randn(2, N, 5, generator=random, dtype=torch.float64)
PROTOTYPES = torch.nn.functional.normalize(
    torch.randn(5, 2, 4, generator=random, dtype=torch.float64), dim=2
)
GOLD = torch.rand(N, generator=random, dtype=torch.float64)
NINE = torch.tensor(9.0, dtype=torch.float64)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a, b)


# a, b: (n, 4) of a process; i, y: its ids and grades.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "cua": lambda a, b, i, y, **k: cua(a, b, NINE, cross_uniformity=1.0, **k).value,
    "cua, ids": lambda a, b, i, y, **k: cua(a, b, NINE, cross_uniformity=1.0, ids=i, **k).value,
    "cua, tile": lambda a, b, i, y, **k: cua(a, b, NINE, tile=3, **k).value,
    "hard": lambda a, b, i, y, **k: hard_contrastive(a, b, NINE, alpha=0.4, ids=i, **k).value,
    "simple": lambda a, b, i, y, **k: simple_contrastive(a, b, **k).value,
    "simple, ids": lambda a, b, i, y, **k: simple_contrastive(a, b, ids=i, **k).value,
    "barlip": lambda a, b, i, y, **k: barlip(a, b, **k).value,
    "siamlip": lambda a, b, i, y, **k: siamlip((a, b), (b, a), **k).value,
    "palm": lambda a, b, i, y, **k: palm(a, i, PROTOTYPES, momentum=0.5, nearest=1, **k).loss.value,
    "pearson": lambda a, b, i, y, **k: pearson(cosines(a, b), y, **k).value,
    "rank_kl": lambda a, b, i, y, **k: rank_kl(cosines(a, b), y, **k).value,
    "pro": lambda a, b, i, y, **k: pro(cosines(a, b), y, **k).value,
    "sepclr": lambda a, b, i, y, **k: sepclr((a, b), (b, a), i > 1, **k).value,
    "degla": lambda a, b, i, y, **k: (
        degla(Seen(a, b, a[:, None]), Seen(b, a, b[:, None]), NINE, **k).value
    ),
}


def shares(rank: int, world: int) -> dict[str, list[Tensor]]:
    """Of this process's rows: value and gradients of two towers that all processes share."""
    own = slice(rank * N // world, (rank + 1) * N // world)
    found = {}
    for name, function in LOSSES.items():
        for masked in (False, True):
            towers = [torch.eye(5, 4, dtype=torch.float64).requires_grad_() for _ in range(2)]
            a, b = (x[own] @ t for x, t in zip(INPUTS, towers, strict=True))
            options = {"gather": world > 1, "present": SOME[own] if masked else None}
            value = function(a, b, IDS[own], GOLD[own], **options)
            grads = torch.autograd.grad(value, towers, materialize_grads=True)
            found[f"{name}, {masked}"] = [value.detach(), *grads]
    towers = [torch.eye(5, 4, dtype=torch.float64).requires_grad_() for _ in range(2)]
    a, b = (x[own] @ t for x, t in zip(INPUTS, towers, strict=True))
    value = swalip([(a, b), (b, a)], NINE, gather=world > 1).value
    found["swalip"] = [value.detach(), *torch.autograd.grad(value, towers)]
    moved = palm(a, IDS[own], PROTOTYPES, momentum=0.5, gather=world > 1).prototypes
    return {**found, "prototypes": [moved]}


def test_mean_over_processes_equals_one_process(tmp_path) -> None:
    ranks = in_processes(2, tmp_path, shares)
    for name, expected in shares(0, 1).items():
        for number, wanted in enumerate(expected):
            mean = sum(share[name][number] for share in ranks) / 2
            torch.testing.assert_close(mean, wanted, rtol=1e-9, atol=1e-11, msg=name)
    one, other = (share["prototypes"][0] for share in ranks)
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", LOSSES)
def test_gathering_in_one_process_changes_nothing(name: str) -> None:
    a, b = INPUTS[..., :4]
    plain = LOSSES[name](a, b, IDS, GOLD)
    gathered = LOSSES[name](a, b, IDS, GOLD, gather=True)
    torch.testing.assert_close(gathered, plain, rtol=1e-13, atol=1e-13)
