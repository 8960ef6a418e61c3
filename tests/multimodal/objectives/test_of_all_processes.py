"""Objectives that work block by block: several processes are one, blocks are the whole, and order,
rotation, precision and what stands in absent rows change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.dexml import decoupled_softmax, soft_top_k
from multimodal.objectives.gram import gram
from multimodal.objectives.isogclr import Pace, isogclr
from multimodal.objectives.mann_whitney import mann_whitney
from multimodal.objectives.multiview import mv_dhel, mv_info_nce
from multimodal.objectives.tools.samples import SampleTables
from multimodal.objectives.views import Pairs
from tests.multimodal.objectives.tools.gloo import in_processes

N = 8
IDS = torch.tensor([0, 1, 2, 1, 0, 3, 4, 3])
XRAY = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1], dtype=torch.bool)
ECG = torch.tensor([1, 0, 1, 1, 1, 0, 1, 1], dtype=torch.bool)
PACE = Pace(gamma=0.7, rho=0.5, tau=0.1)


def visited(a: Tensor, b: Tensor, s: Tensor, ids: Tensor | None, **options: Any) -> Loss:
    """The second visit of each, so that the first one's estimate counts. No scale is in it."""
    known = torch.zeros(len(a), dtype=torch.int64) if ids is None else ids
    kept = torch.tensor([-1.0, 0.2, 0.1, -1.5, 0.3, 0.0], dtype=torch.float64).repeat(len(a), 1)
    kept[:, 0] -= 0.1 * known
    numbers = torch.arange(len(a)) + 100 * known
    loss, _ = isogclr(a, b, kept, numbers, ids=ids, pace=PACE, **options)
    return loss._replace(value=loss.value + 0 * s.sum())


def of_pairs(loss: Callable[..., Loss], **more: Any) -> Callable[..., Loss]:
    """Of three views the first and the last, and the mask of the first."""

    def found(views: dict[str, Tensor], s: Tensor, present: dict[str, Tensor], **kw: Any) -> Loss:
        return loss(views["xray"], views["text"], s, present=present.get("xray"), **kw, **more)

    return found


LOSSES: dict[str, Callable[..., Loss]] = {
    "mv_infonce": lambda v, s, present, **kw: mv_info_nce(v, s, present=present, **kw),
    "mv_dhel": lambda v, s, present, **kw: mv_dhel(v, s, present=present, **kw),
    "gram": lambda v, s, present, **kw: gram(v, s, present=present, pairwise_weight=0.5, **kw),
    "mann_whitney": of_pairs(mann_whitney),
    "decoupled_softmax": of_pairs(decoupled_softmax, both_ways=True),
    "soft_top_k": of_pairs(soft_top_k, k=2),
    "isogclr": of_pairs(visited),
}


def inputs(seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    raw = torch.randn(3, N, 4, generator=random, dtype=torch.float64)
    return dict(zip(("xray", "ecg", "text"), raw, strict=True))


# ---- several processes ----------------------------------------------------------------------


def shares(rank: int, world: int) -> list[list[Tensor]]:
    """Of this process's cases: value, and gradients of three shared towers and the scale."""
    own = slice(rank * N // world, (rank + 1) * N // world)
    raw, found = inputs(), []
    for name, loss in LOSSES.items():
        for tile, ids, absent in ((None, None, False), (3, IDS, True), (None, IDS, True)):
            if name == "isogclr":
                ids = IDS  # its state there goes by them, the same in one process and in several
            towers = [torch.eye(4, dtype=torch.float64).requires_grad_() for _ in range(3)]
            scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
            value = loss(
                {n: x[own] @ w for (n, x), w in zip(raw.items(), towers, strict=True)},
                scale,
                {"xray": XRAY[own], "ecg": ECG[own]} if absent else {},
                ids=None if ids is None else ids[own],
                gather=world > 1,
                tile=tile,
            ).value
            grads = torch.autograd.grad(value, [*towers, scale], allow_unused=True)
            zeros = torch.zeros((), dtype=torch.float64)
            found.append([value.detach(), *(zeros if g is None else g for g in grads)])
    return found


def test_mean_over_processes_equals_one_process(tmp_path) -> None:
    ranks = in_processes(2, tmp_path, shares)
    for number, expected in enumerate(shares(0, 1)):
        for key, wanted in enumerate(expected):
            mean = sum(share[number][key] for share in ranks) / 2
            torch.testing.assert_close(mean, wanted, rtol=1e-9, atol=1e-11)


def tables_of(rank: int, world: int) -> dict[str, Tensor]:
    """After two visits, in each process."""
    config: Any = OBJECTIVES.parse("isogclr")
    tables, numbers = SampleTables(6), torch.arange(20, 20 + N)
    own = slice(rank * N // world, (rank + 1) * N // world)
    for seed in (1, 2):
        x = inputs(seed)
        pairs = Pairs(
            x["xray"][own], x["text"][own], x["text"][own], IDS[own], torch.tensor(1.0), IDS[:1]
        )
        here = pairs._replace(name="x", numbers=numbers[own], tables=tables, present=XRAY[own])
        config.loss(here, gather=world > 1)
    return tables.state_dict()


def test_every_process_keeps_the_same_of_all_samples(tmp_path) -> None:
    expected = tables_of(0, 1)["x"]
    assert expected[20 : 20 + N].isfinite().all(1).tolist() == XRAY.tolist()
    for found in in_processes(2, tmp_path, tables_of):
        torch.testing.assert_close(found["x"], expected, equal_nan=True, rtol=1e-5, atol=1e-6)


# ---- one process ----------------------------------------------------------------------------


def outcome(name: str, views: dict[str, Tensor], **options: Any) -> tuple[Tensor, ...]:
    leaves = [x.detach().clone().requires_grad_() for x in views.values()]
    scale = torch.tensor(5.0, dtype=torch.float64)
    options = {"ids": IDS, "present": {}, **options}
    value = LOSSES[name](dict(zip(views, leaves, strict=True)), scale, **options).value
    grads = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), *(g for g in grads if g is not None)


def same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_blocks_are_the_whole(name: str) -> None:
    whole = outcome(name, inputs(), present={"xray": XRAY})
    for tile in (1, 3, 100):
        same(outcome(name, inputs(), present={"xray": XRAY}, tile=tile), whole)


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_cases_changes_nothing(name: str) -> None:
    order = torch.tensor([3, 1, 4, 0, 7, 6, 2, 5])
    value, *grads = outcome(name, inputs(), present={"xray": XRAY})
    moved = outcome(
        name,
        {n: x[order] for n, x in inputs().items()},
        present={"xray": XRAY[order]},
        ids=IDS[order],
    )
    same(moved, (value, *(g[order] for g in grads)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_rotation_and_the_lengths_of_rows_change_nothing(name: str) -> None:
    random = torch.Generator().manual_seed(9)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=random, dtype=torch.float64))[0]
    value, *_ = outcome(name, inputs())
    for views in (
        {n: x @ turn for n, x in inputs().items()},
        {n: 7 * x for n, x in inputs().items()},
    ):
        torch.testing.assert_close(outcome(name, views)[0], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_what_stands_in_absent_rows_is_nothing(name: str) -> None:
    bad = inputs()
    bad["xray"][~XRAY] = torch.nan
    value, *grads = outcome(name, bad, present={"xray": XRAY})
    expected, *_ = outcome(name, inputs(), present={"xray": XRAY})
    torch.testing.assert_close(value, expected)
    assert all(g.isfinite().all() for g in grads)
    assert not grads[0][~XRAY].any()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_and_autocast_are_computed_in_float32(name: str, kind: Any) -> None:
    views = {n: x.to(kind) for n, x in inputs().items()}
    leaves = [x.requires_grad_() for x in views.values()]
    scale, options = torch.tensor(100.0), {"ids": IDS, "present": {}}
    plain = LOSSES[name]({n: x.float() for n, x in views.items()}, scale, **options).value
    with torch.autocast("cpu", torch.bfloat16):
        value = LOSSES[name](views, scale, **options, tile=3).value
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, plain, rtol=1e-4, atol=1e-5)
        grads = torch.autograd.grad(value, leaves, allow_unused=True)
    assert all(g.isfinite().all() for g in grads if g is not None)


@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_not_hidden(name: str) -> None:
    bad = inputs()
    bad["text"][2, 1] = torch.nan
    scale = torch.tensor(5.0, dtype=torch.float64)
    assert not LOSSES[name](bad, scale, {}, ids=IDS).value.isfinite()


def kept_bytes(name: str, tile: int | None) -> int:
    """What the graph of a loss of 192 cases holds between forward and backward."""
    views = {n: torch.randn(192, 4).requires_grad_() for n in inputs()}
    total = 0

    def pack(x: Tensor) -> Tensor:
        nonlocal total
        total += x.numel() * x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        LOSSES[name](views, torch.tensor(5.0), {}, ids=None, tile=tile)
    return total


@pytest.mark.parametrize("name", LOSSES)
def test_blocks_keep_no_matrix(name: str) -> None:
    matrix = 192 * 192 * 4
    assert kept_bytes(name, None) > matrix
    assert kept_bytes(name, 16) < matrix
