from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from multimodal.objectives import Loss
from multimodal.objectives.compa import modular
from multimodal.objectives.contrastive import (
    info_nce,
    multi_positive,
    siglip,
    supervised_contrastive,
)
from multimodal.objectives.cwcl import cwcl
from tests.multimodal.objectives.tools.largest import Largest

Objective = Callable[..., Loss]


def source(ids: Tensor) -> Tensor:
    """On the circle, so that weights do not depend on a and b."""
    return torch.stack([ids.cos(), ids.sin()], 1)


OBJECTIVES: dict[str, Objective] = {
    "info_nce": lambda a, b, s, c, i, **k: info_nce(a, b, s, **k),
    "info_nce, ids": lambda a, b, s, c, i, **k: info_nce(a, b, s, ids=i, **k),
    "multi_positive": lambda a, b, s, c, i, **k: multi_positive(a, b, i, s, **k),
    "supervised": lambda a, b, s, c, i, **k: supervised_contrastive(a + 0 * b, i, s, **k),
    "siglip": lambda a, b, s, c, i, **k: siglip(a, b, s, c, **k),
    "siglip, ids": lambda a, b, s, c, i, **k: siglip(a, b, s, c, ids=i, **k),
    "cwcl": lambda a, b, s, c, i, **k: cwcl(a, b, s, ids=i, similarity_source=source(i), **k),
    "cwcl, frozen anchor": lambda a, b, s, c, i, **k: cwcl(
        a, b, s, anchor="frozen", similarity_source=source(i), **k
    ),
    "cwcl, exp": lambda a, b, s, c, i, **k: cwcl(
        a, b, s, kernel="exp", sharpness=0.1, similarity_source=source(i), **k
    ),
    "compa": lambda a, b, s, c, i, **k: modular(
        a,
        b,
        s,
        positives=(b + a.flip(1))[:, None],
        negatives=torch.stack([b.flip(1), a + b], 1),
        allowed_negatives=torch.stack([i > 1, i % 2 == 0], 1),
        negative_signals=(b - a)[:, None],
        keys=i,
        **k,
    ),
}


def inputs(n: int, d: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[Tensor]:
    """a, b, scale, bias with gradients; ids in which some repeat."""
    random = torch.Generator().manual_seed(n)
    a, b = torch.randn(2, n, d, generator=random, dtype=dtype).to(device)
    b = a + 2 * b  # pairs resemble each other
    scale, bias = (torch.tensor(x, dtype=dtype, device=device) for x in (14.3, -10.0))
    ids = torch.randint(0, n, (n,), generator=random).to(device)
    return [*(x.detach().requires_grad_() for x in (a, b, scale, bias)), ids]


def results(objective: Objective, tensors: list[Tensor], **options: Any) -> dict[str, Tensor]:
    """Value, terms and gradients."""
    loss = objective(*tensors, **options)
    leaves = [x for x in tensors if x.requires_grad]
    grads = torch.autograd.grad(loss.value, leaves, allow_unused=True)
    named = {f"gradient {i}": g for i, g in enumerate(grads) if g is not None}
    return {"value": loss.value.detach(), **loss.terms, **named}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the largest entry of each tensor."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        difference = (ours[name].double() - expected.double()).abs().max().item()
        assert difference <= tolerance * max(expected.abs().max().item(), 1e-3), name


@pytest.mark.parametrize(("n", "tile"), [(33, 8), (64, 64), (130, 47), (130, 1000)])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_tiled_equals_whole_in_float32(name: str, n: int, tile: int) -> None:
    tensors = inputs(n, 16)
    whole = results(OBJECTIVES[name], tensors)
    assert_same(results(OBJECTIVES[name], tensors, tile=tile), whole, 1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_tiled_equals_whole_in_float64(name: str) -> None:
    tensors = inputs(13, 4, torch.float64)
    whole = results(OBJECTIVES[name], tensors)
    for tile in (1, 4, 13):
        assert_same(results(OBJECTIVES[name], tensors, tile=tile), whole, 1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_tiled_equals_whole_on_a_gpu(name: str) -> None:
    whole = results(OBJECTIVES[name], inputs(130, 16))
    tensors = inputs(130, 16, device="cuda")
    for tile in (None, 47):
        ours = results(OBJECTIVES[name], tensors, tile=tile)
        assert_same({k: x.cpu() for k, x in ours.items()}, whole, 1e-4)  # TF32 is off by default


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_pass_gradcheck(name: str) -> None:
    *leaves, ids = inputs(4, 2, torch.float64)

    def value(*leaves: Tensor) -> Tensor:
        return OBJECTIVES[name](*leaves, ids, tile=3).value

    assert torch.autograd.gradcheck(value, leaves)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_matrix_is_held(name: str) -> None:
    tensors = inputs(128, 4)
    with Largest() as whole:
        results(OBJECTIVES[name], tensors)
    with Largest() as tiled:
        results(OBJECTIVES[name], tensors, tile=32)
    assert whole.elements == 128 * 128
    assert tiled.elements == 32 * 32  # more than embeddings, 4 * 128, and five numbers a row


def test_confident_rows_keep_their_digits() -> None:
    # Losses of 1e-3 at logits of 100, whose float32 log-sum-exp has a rounding error of 4e-6.
    random = np.random.default_rng(0)
    a = torch.cat([torch.full((40, 1), 3.0), torch.eye(40)], 1).double()  # all cosines 0.9
    b = a + 0.01 * torch.tensor(random.normal(size=a.shape))
    scale = torch.tensor(100.0, dtype=torch.float64)
    pair = [a, b, scale]
    exact = [x.detach().requires_grad_() for x in pair]
    float32 = [x.float().detach().requires_grad_() for x in pair]
    expected = info_nce(*exact).value
    value = info_nce(*float32, tile=16).value
    assert expected < 1e-2
    assert value.item() == pytest.approx(expected.item(), rel=2e-5)
    for ours, theirs in zip(
        torch.autograd.grad(value, float32), torch.autograd.grad(expected, exact), strict=True
    ):
        assert (ours - theirs).abs().max() <= 5e-5 * theirs.abs().max()


def test_a_frozen_side_gets_no_gradient_and_no_product() -> None:
    a, b, scale, _, _ = inputs(12, 4)
    frozen = b.detach()
    for anchor in ("trained", "frozen"):
        products = Products()
        with products:
            cwcl(a, frozen, scale, anchor=anchor, tile=12).value.backward()
        # Logits and weights forward, again backward, and the gradient of the trained side.
        assert products.count == 5


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.name() in ("aten::mm", "aten::addmm_")
        return func(*args, **(kwargs or {}))


def test_accuracies_and_losses_without_any_gradient() -> None:
    a, b, scale, bias, ids = (x.detach() for x in inputs(20, 4))
    for objective in OBJECTIVES.values():
        whole = objective(a, b, scale, bias, ids)
        tiled = objective(a, b, scale, bias, ids, tile=7)
        torch.testing.assert_close(tiled.value, whole.value)
        assert not tiled.value.requires_grad


def test_second_derivatives_are_refused() -> None:
    a, b, scale, _, _ = inputs(6, 3)
    with pytest.raises(ValueError, match="tile: tiles have first derivatives only"):
        torch.autograd.grad(info_nce(a, b, scale, tile=4).value, a, create_graph=True)
