from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.contrastive import (
    info_nce,
    multi_positive,
    siglip,
    supervised_contrastive,
)
from multimodal.objectives.cwcl import cwcl
from multimodal.objectives.tools import gather
from multimodal.objectives.tools.gather import gather_rows, mean_over_processes, world_size
from tests.multimodal.objectives.tools.gloo import in_processes
from tests.multimodal.objectives.tools.largest import Largest

N, D = 16, 6  # pairs in the whole batch, width

IDS = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 2, 2, 8, 10])  # few anchors on rank 1 of 4
OBJECTIVES: dict[str, Callable[..., Loss]] = {
    "info_nce": lambda a, b, s, c, i, q, **k: info_nce(a, b, s, **k),
    "info_nce, ids": lambda a, b, s, c, i, q, **k: info_nce(a, b, s, ids=i, **k),
    "multi_positive": lambda a, b, s, c, i, q, **k: multi_positive(a, b, i, s, **k),
    "supervised": lambda a, b, s, c, i, q, **k: supervised_contrastive(a + b, i, s, **k),
    "siglip": lambda a, b, s, c, i, q, **k: siglip(a, b, s, c, **k),
    "siglip, ids": lambda a, b, s, c, i, q, **k: siglip(a, b, s, c, ids=i, **k),
    "cwcl": lambda a, b, s, c, i, q, **k: cwcl(a, q, s, **k),
    "cwcl, head": lambda a, b, s, c, i, q, **k: cwcl(a, b, s, similarity_source=q, ids=i, **k),
    "cwcl, frozen": lambda a, b, s, c, i, q, **k: cwcl(a, q, s, anchor="frozen", **k),
    "cwcl, frozen, head": lambda a, b, s, c, i, q, **k: cwcl(
        a, b, s, anchor="frozen", similarity_source=q, kernel="exp", sharpness=0.3, **k
    ),
}
TERMS_OF_THE_BATCH = ("weighted", "plain", "target_entropy", "true_pair_mass", "a_to_b", "b_to_a")


def parameters(dtype: torch.dtype) -> list[Tensor]:
    """Two linear towers, scale, bias: the same in every process."""
    random = torch.Generator().manual_seed(0)
    towers = torch.randn(2, 5, D, generator=random, dtype=torch.float64).to(dtype)
    numbers = torch.tensor([10.0, -4.0], dtype=dtype)
    return [x.clone().requires_grad_() for x in (*towers, *numbers)]


def results(
    name: str, dtype: torch.dtype, tile: int | None, rank: int, world: int
) -> dict[str, Tensor]:
    """This process's value, terms and gradients."""
    random = torch.Generator().manual_seed(1)
    own = slice(rank * N // world, (rank + 1) * N // world)
    inputs, frozen = torch.randn(2, N, 5, generator=random, dtype=torch.float64).to(dtype)[:, own]
    weights = parameters(dtype)
    a, b = inputs @ weights[0], frozen @ weights[1]
    features = frozen @ torch.eye(5, D).to(dtype)
    options = {"gather": world > 1, "tile": tile}
    loss = OBJECTIVES[name](a, b, *weights[2:], IDS[own], features, **options)
    grads = torch.autograd.grad(loss.value, weights, allow_unused=True, materialize_grads=True)
    terms = {k: v for k, v in loss.terms.items() if k in TERMS_OF_THE_BATCH}
    return {"value": loss.value, **terms, **{f"gradient {i}": g for i, g in enumerate(grads)}}


HOW: list[tuple[torch.dtype, int | None]] = [(torch.float32, None), (torch.float64, 3)]
CASES = [(name, dtype, tile) for name in OBJECTIVES for dtype, tile in HOW]


def all_cases(rank: int, world: int) -> list[dict[str, Tensor]]:
    shares = [results(*case, rank, world) for case in CASES]
    return [{key: x.detach() for key, x in share.items()} for share in shares]


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_mean_over_processes_equals_one_process(tmp_path, world: int) -> None:
    ranks = in_processes(world, tmp_path, all_cases)
    for case, shares in zip(CASES, zip(*ranks, strict=True), strict=True):
        tolerance = 1e-6 if case[1] == torch.float32 else 1e-12
        for key, expected in results(*case, 0, 1).items():
            mean = sum(share[key] for share in shares) / world
            error = (mean - expected).abs().max()
            assert error <= tolerance * max(1, expected.abs().max()), (case, key)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_process_holds_its_rows_by_all_columns(monkeypatch, name: str) -> None:
    # One of four processes, whose neighbours hold the same rows.
    monkeypatch.setattr(gather, "world_size", lambda: 4)
    monkeypatch.setattr(gather, "rank", lambda: 1)
    monkeypatch.setattr(dist, "all_gather", lambda to, x: [y.copy_(x) for y in to])
    monkeypatch.setattr(dist, "all_reduce", lambda x: x.mul_(4))
    monkeypatch.setattr(dist, "reduce_scatter", lambda to, pieces: to.copy_(sum(pieces)))
    a, b, features = torch.randn(3, 64, 2)
    ids = torch.arange(64) // 2
    for tile, elements in ((None, 64 * 256), (32, 5 * 256)):
        leaves = [x.clone().requires_grad_() for x in (a, b, torch.tensor(9.0), torch.tensor(-4.0))]
        with Largest() as largest:
            loss = OBJECTIVES[name](*leaves, ids, features, gather=True, tile=tile)
            loss.value.backward()
        assert largest.elements <= elements


def gather_numbers(rank: int, world: int) -> list[Tensor]:
    x = torch.tensor([[1.0 + rank, 2.0], [3.0, 4.0 * rank]], requires_grad=True)
    gathered = gather_rows(x)
    # Process r weighs row k of the gathered rows with (r + 1) * k.
    weights = (rank + 1.0) * torch.arange(2 * world)
    (weights[:, None] * gathered).sum().backward()
    assert x.grad is not None
    frozen = gather_rows(x, grad=False)
    assert not frozen.requires_grad
    flags = gather_rows(torch.tensor([True, rank == 1]), grad=False)
    mean = mean_over_processes(torch.tensor(float(rank)))
    return [gathered.detach(), x.grad, frozen, flags, mean]


def test_gather_is_in_the_order_of_ranks_and_sums_gradients(tmp_path) -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 0.0], [2.0, 2.0], [3.0, 4.0]])
    for rank, result in enumerate(in_processes(2, tmp_path, gather_numbers)):
        gathered, grad, frozen, flags, mean = result
        assert torch.equal(gathered, rows)
        assert torch.equal(frozen, rows)
        of_rows = torch.tensor([2.0 * rank, 2.0 * rank + 1])
        assert torch.equal(grad, (1 + 2) * of_rows[:, None].expand(2, 2))
        assert flags.tolist() == [True, False, True, True]
        assert mean == 0.5


def unequal(rank: int, world: int) -> None:
    info_nce(torch.ones(3 + rank, 2), torch.ones(3 + rank, 2), torch.tensor(1.0), gather=True)


def test_unequal_batches_are_refused_by_every_process(tmp_path) -> None:
    for message in in_processes(2, tmp_path, unequal):
        assert "unequal batches (rows: 3 on rank 0, 4 on rank 1" in message
        assert "dropping the last incomplete batch" in message


def test_one_process_gathers_itself() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert world_size() == 1
    assert gather_rows(x) is x
    assert not gather_rows(x, grad=False).requires_grad
    assert mean_over_processes(x).equal(x)
    apart, together = (
        functools.partial(info_nce, x, x.flip(0), torch.tensor(2.0), gather=g)
        for g in (False, True)
    )
    assert apart().value == together().value
