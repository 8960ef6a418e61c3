"""What holds of every objective of paired embeddings, and slow gradients to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.objectives import Loss
from tests.multimodal.objectives.tools.largest import Largest

Oracle = Callable[..., float]
Function = Callable[..., Loss]
HUNDRED = torch.tensor(100.0)
IDS = np.array([0, 1, 1, 2, 0, 3, 1])  # of a ``pair``
ROWS_DIFFER = r"a: shape \(7, 5\), b: shape \(3, 5\)"  # a pair of which b has three rows


def numeric_gradients(oracle: Oracle, arrays: list[np.ndarray], step: float = 1e-6) -> list:
    """Central differences of a function of arrays."""
    found = []
    for number, array in enumerate(arrays):
        gradient = np.zeros_like(array, dtype=float)
        for place in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = [x.astype(float).copy() for x in arrays]
                moved[number][place] += sign * step
                ends.append(oracle(*moved))
            gradient[place] = (ends[0] - ends[1]) / (2 * step)
        found.append(gradient)
    return found


def assert_is_oracle(
    function: Callable[..., Tensor], oracle: Oracle, arrays: list[np.ndarray]
) -> None:
    """Value and gradients of all arrays, in float64."""
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    value = function(*leaves)
    np.testing.assert_allclose(value.item(), oracle(*arrays), rtol=1e-9, atol=1e-12)
    grads = torch.autograd.grad(value, leaves, materialize_grads=True)
    for grad, expected in zip(grads, numeric_gradients(oracle, arrays), strict=True):
        np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)


def pair(count: int = 7, width: int = 5, seed: int = 0, dtype: Any = torch.float64) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return list(torch.randn(2, count, width, generator=random, dtype=torch.float64).to(dtype))


def assert_invariant(function: Function, *, lengths: bool = True) -> None:
    """Order of the batch, a joint rotation and, with ``lengths``, lengths do not matter."""
    a, b = pair()
    value = function(a, b).value
    order = torch.tensor([3, 1, 5, 0, 6, 4, 2])
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    for moved in ((a[order], b[order]), (a @ turn, b @ turn)):
        torch.testing.assert_close(function(*moved).value, value)
    longer = function(7 * a, b / 9).value
    assert torch.allclose(longer, value) == lengths


def assert_tiles(function: Function) -> None:
    """function: takes ``tile``; value, gradients and terms as those of the whole."""
    a, b = (x.requires_grad_() for x in pair())
    whole = function(a, b)
    grads = torch.autograd.grad(whole.value, (a, b))
    for tile in (1, 2, 3, 7, 100):
        tiled = function(a, b, tile=tile)
        torch.testing.assert_close(tiled.value, whole.value, rtol=1e-12, atol=1e-12)
        assert tiled.terms.keys() == whole.terms.keys()
        for key, term in tiled.terms.items():
            torch.testing.assert_close(term, whole.terms[key], rtol=1e-10, atol=1e-12)
        for one, other in zip(torch.autograd.grad(tiled.value, (a, b)), grads, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def assert_linear_memory(function: Function, **options: Any) -> None:
    """Forward and backward of 64 pairs make no tensor of more than 64 times 8 numbers."""
    a, b = (x.requires_grad_() for x in pair(64, 2, dtype=torch.float32))
    with Largest() as largest:
        function(a, b, **options).value.backward()
    assert largest.elements <= 64 * 8


def assert_masks(function: Function) -> None:
    """function: takes ``present``. Absent rows are as if not there, also if they are NaN; of one
    row and of none the value is finite and so are the gradients.
    """
    a, b = pair()
    some = torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
    hole = torch.where(some[:, None], 0.0, torch.nan)
    spoilt = [(x + hole).requires_grad_() for x in (a, b)]
    alone = [x[some].clone().requires_grad_() for x in (a, b)]
    masked, expected = function(*spoilt, present=some), function(*alone)
    torch.testing.assert_close(masked.value, expected.value, rtol=1e-12, atol=1e-12)
    for key, term in expected.terms.items():
        torch.testing.assert_close(masked.terms[key], term, rtol=1e-10, atol=1e-12)
    of_spoilt = torch.autograd.grad(masked.value, spoilt)
    of_alone = torch.autograd.grad(expected.value, alone)
    for grad, wanted in zip(of_spoilt, of_alone, strict=True):
        torch.testing.assert_close(grad[some], wanted, rtol=1e-10, atol=1e-12)
        assert not grad[~some].any()
    for count in (0, 1):
        leaves = [x.clone().requires_grad_() for x in (a, b)]
        few = function(*leaves, present=torch.arange(7) < count)
        assert few.value.isfinite()
        for grad in torch.autograd.grad(few.value, leaves, materialize_grads=True):
            assert grad.isfinite().all()
        if count == 0:
            assert few.value == 0


def assert_half_precision(function: Function, width: int = 64) -> None:
    """Computed in float32, finite and the same under autocast; also with a row of zeros."""
    for dtype in (torch.float16, torch.bfloat16):
        a, b = pair(width=width, dtype=dtype)
        expected = function(a.double(), b.double()).value.float()
        for enabled in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                found = function(a, b)
            assert found.value.dtype == torch.float32
            torch.testing.assert_close(found.value, expected, rtol=1e-4, atol=1e-5)
    # A silent recording; its gradient is too large for float16.
    a, b = pair(width=width, dtype=torch.float32)
    a[0] = 0
    a.requires_grad_()
    loss = function(a, b)
    (grad,) = torch.autograd.grad(loss.value, a)
    assert loss.value.isfinite()
    assert grad.isfinite().all()
