"""Named views: absent cases are as if they were not there, and pairs of views are summed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.compa import modular
from multimodal.objectives.contrastive import info_nce, multi_positive, siglip
from multimodal.objectives.cwcl import cwcl
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.views import TEXT, Term, Views, total
from tests.multimodal.objectives.tools.gloo import in_processes

N = 12
IDS = torch.tensor([0, 0, 1, 2, 3, 4, 0, 6, 1, 2, 2, 5])
SOME = torch.tensor([1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1]).bool()
LOSSES: dict[str, Callable[..., Loss]] = {
    "info_nce": lambda a, b, q, i, s, c, **k: info_nce(a, b, s, **k),
    "info_nce, ids": lambda a, b, q, i, s, c, **k: info_nce(a, b, s, ids=i, **k),
    "info_nce, smoothed": lambda a, b, q, i, s, c, **k: info_nce(
        a, b, s, ids=i, smoothing=0.3, **k
    ),
    "multi_positive": lambda a, b, q, i, s, c, **k: multi_positive(a, b, i, s, **k),
    "siglip": lambda a, b, q, i, s, c, **k: siglip(a, b, s, c, **k),
    "siglip, ids": lambda a, b, q, i, s, c, **k: siglip(a, b, s, c, ids=i, **k),
    "cwcl": lambda a, b, q, i, s, c, **k: cwcl(a, b, s, similarity_source=q, ids=i, **k),
    "cwcl, frozen": lambda a, b, q, i, s, c, **k: cwcl(a, b, s, anchor="frozen", **k),
    "compa": lambda a, b, q, i, s, c, **k: modular(a, b, s, **beside(a, b, q, i), **k),
}


def beside(a: Tensor, b: Tensor, q: Tensor, i: Tensor) -> dict[str, Any]:
    """What only its own case sees: one and two texts, a signal, some of which are missing."""
    return {
        "positives": torch.stack([b + q, b.flip(1)], 1),
        "allowed_positives": torch.stack([i != 0, i > 2], 1),
        "negatives": torch.stack([b.roll(1, 1), q, q.flip(1)], 1),
        "allowed_negatives": torch.stack([i > 0, i % 3 == 0, i < 5], 1),
        "negative_signals": (a + q)[:, None],
        "keys": i,
    }


CASES = [(name, tile) for name in LOSSES for tile in (None, 3)]


def inputs(count: int = N) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Two sides; a source; scale and bias."""
    random = torch.Generator().manual_seed(0)
    a, b, q = torch.randn(3, count, 5, generator=random, dtype=torch.float64)
    numbers = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (6.0, -2.0)]
    return [a.requires_grad_(), b.requires_grad_()], q, numbers


def outcome(
    name: str, tile: int | None, keep: Tensor, present: Tensor | None, gather: bool
) -> tuple[Loss, list[Tensor]]:
    """Of the rows ``keep`` (bool): the loss, and its gradients."""
    sides, q, numbers = inputs()
    a, b = (x[keep] for x in sides)
    loss = LOSSES[name](
        a, b, q[keep], IDS[keep], *numbers, present=present, gather=gather, tile=tile
    )
    leaves = [*sides, *numbers]
    return loss, list(torch.autograd.grad(loss.value, leaves, materialize_grads=True))


@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize(("name", "tile"), CASES)
def test_absent_rows_are_as_if_they_were_not_there(name, tile, gather: bool) -> None:
    every = torch.ones(N, dtype=torch.bool)
    loss, grads = outcome(name, tile, every, SOME, gather)
    expected, of_some = outcome(name, tile, SOME, None, gather)
    torch.testing.assert_close(loss.value, expected.value, rtol=1e-12, atol=0)
    assert loss.terms.keys() == expected.terms.keys()
    for key, term in expected.terms.items():
        torch.testing.assert_close(loss.terms[key], term, rtol=1e-12, atol=1e-12)
    for grad, wanted in zip(grads, of_some, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-10, atol=1e-12)
    full, _ = outcome(name, tile, every, every, gather)
    plain, _ = outcome(name, tile, every, None, gather)
    torch.testing.assert_close(full.value, plain.value, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("name", "tile"), CASES)
def test_nothing_is_read_in_an_absent_row_and_none_at_all_costs_nothing(name, tile) -> None:
    (a, b), q, numbers = inputs()
    loss = LOSSES[name](a, b, q, IDS, *numbers, present=SOME, tile=tile)
    hole = torch.where(SOME[:, None], 0.0, torch.nan)
    spoilt = LOSSES[name](a + hole, b + hole, q + hole, IDS, *numbers, present=SOME, tile=tile)
    assert spoilt.value == loss.value
    none = LOSSES[name](a, b, q, IDS, *numbers, present=torch.zeros_like(SOME), tile=tile)
    assert none.value == 0
    grads = torch.autograd.grad(none.value, (a, b, *numbers), materialize_grads=True)
    assert not any(g.any() for g in grads)


@pytest.mark.parametrize("mask", [torch.ones(5, dtype=torch.bool), torch.ones(N)])
def test_a_mask_that_does_not_fit_is_refused(mask: Tensor) -> None:
    (a, b), _, numbers = inputs()
    with pytest.raises(ValueError, match="present: shape"):
        info_nce(a, b, numbers[0], present=mask)


# ---- several processes ----------------------------------------------------------------------

# Two of four processes hold three rows that take part, one has none, one has only one.
RAGGED = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1]).bool()


def shares(rank: int, world: int) -> list[list[Tensor]]:
    """Of this process's rows: value and gradients of two shared towers, scale and bias."""
    own = slice(rank * N // world, (rank + 1) * N // world)
    found = []
    for name, tile in CASES:
        for mask in (RAGGED, torch.zeros_like(RAGGED)):
            (a, b), q, numbers = inputs()
            towers = [torch.eye(5, dtype=torch.float64).requires_grad_() for _ in range(2)]
            sides = a.detach()[own] @ towers[0], b.detach()[own] @ towers[1]
            options: dict[str, Any] = {"gather": world > 1, "tile": tile, "present": mask[own]}
            loss = LOSSES[name](*sides, q[own], IDS[own], *numbers, **options)
            grads = torch.autograd.grad(loss.value, [*towers, *numbers], materialize_grads=True)
            found.append([loss.value.detach(), *grads])
    return found


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_may_hold_different_numbers_of_rows(tmp_path, world: int) -> None:
    ranks = in_processes(world, tmp_path, shares)
    for number, expected in enumerate(shares(0, 1)):
        for key, wanted in enumerate(expected):
            mean = sum(share[number][key] for share in ranks) / world
            torch.testing.assert_close(mean, wanted, rtol=1e-10, atol=1e-12)


# ---- sums -----------------------------------------------------------------------------------


def triple(present: dict[str, Tensor] | None = None) -> Views:
    random = torch.Generator().manual_seed(1)
    x, e, t, q = torch.randn(4, N, 5, generator=random)
    return Views(
        {"xray": x, "ecg": e, TEXT: t},
        q,
        IDS,
        torch.tensor(8.0),
        torch.tensor(-3.0),
        present or {},
    )


@pytest.mark.parametrize("name", ["clip", "siglip", "cwcl"])
def test_the_loss_is_the_sum_over_the_pairs_with_the_text(name: str) -> None:
    objective: Any = OBJECTIVES.parse({"name": name, "mask_duplicates": True})
    masks = {"ecg": SOME, TEXT: torch.arange(N) < 11}
    views = triple(masks)
    x = objective.loss(views.pairs("xray"), gather=False)
    e = objective.loss(views.pairs("ecg"), gather=False)
    loss = objective.of_views(views, gather=False)
    torch.testing.assert_close(loss.value, x.value + e.value)
    known = set(x.terms) - {"scale", "bias"}
    assert {k for k in loss.terms if "/" in k} == {
        f"{m}/{k}" for m in ("xray", "ecg") for k in known
    }
    assert loss.terms["scale"] == 8
    assert torch.equal(loss.terms["ecg/" + min(known)], e.terms[min(known)])
    both = views.pairs("ecg").present
    assert both is not None
    assert both.tolist() == (masks["ecg"] & masks[TEXT]).tolist()
    alone = objective.of_views(triple({"ecg": torch.zeros_like(SOME)}), gather=False)
    torch.testing.assert_close(
        alone.value, objective.loss(triple().pairs("xray"), gather=False).value
    )
    assert not any(key.startswith("ecg/") for key in alone.terms)


@pytest.mark.parametrize("name", ["clip", "siglip", "cwcl"])
def test_two_views_that_all_have_are_a_pair_as_ever(name: str) -> None:
    objective: Any = OBJECTIVES.parse(name)
    full = triple()
    x, t = full.embeddings["xray"], full.embeddings[TEXT]
    views = Views({"xray": x, TEXT: t}, full.source, IDS, full.scale, full.bias)
    loss = objective.of_views(views, gather=False)
    pair = objective.loss(
        Pairs(x, t, full.source, IDS, full.scale, full.bias),
        gather=False,
    )
    assert torch.equal(loss.value, pair.value)
    assert loss.terms == pair.terms


def test_an_objective_that_does_not_look_at_masks_gets_complete_cases_only() -> None:
    class Plain(AlignmentConfig):
        def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
            return info_nce(pairs.signals, pairs.texts, pairs.scale, gather=gather)

    assert torch.isfinite(Plain().of_views(triple(), gather=False).value)
    with pytest.raises(ValueError, match="cases that lack a modality"):
        Plain().of_views(triple({"ecg": SOME}), gather=False)


def test_a_sum_weighs_its_terms() -> None:
    one = Loss(torch.tensor(2.0), {"a": torch.tensor(1.0), "scale": torch.tensor(5.0)})
    found = total([Term("x", 1.0, one, None), Term("e", 0.5, one, torch.tensor([True, False]))])
    assert found.value == 3
    assert sorted(found.terms) == ["e/a", "scale", "x/a"]
