"""SepCLR against plain Python, its closed forms, and samples that are missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.sepclr import sepclr, supervised_alignment
from tests.multimodal.objectives.checks import assert_is_oracle
from tests.multimodal.objectives.oracles import numpy_unit
from tests.multimodal.objectives.tools.largest import Largest

TARGET = np.array([1, 0, 1, 1, 0, 1, 0], dtype=bool)
target = torch.tensor(TARGET)


def arrays(count: int = 7, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(count, width)) for width in (4, 4, 3, 3)]


def loss(given: Sequence[Tensor], which: Tensor = target, **options: Any) -> Loss:
    c1, c2, s1, s2 = given
    return sepclr((c1, c2), (s1, s2), which, **options)


def kernel(a: np.ndarray, b: np.ndarray, tau: float = 0.5) -> float:
    return math.exp(-float(np.sum((a - b) ** 2)) / (2 * tau))


def oracle(c1, c2, s1, s2) -> float:
    c, s, n = [numpy_unit(c1), numpy_unit(c2)], [s1, s2], len(c1)
    own = [x * TARGET[:, None] for x in s]

    def unif(x) -> float:
        return math.log(np.mean([kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j]))

    value = float(np.mean(((c[0] - c[1]) ** 2).sum(1)))
    value += float(np.mean(((s[0] - s[1]) ** 2).sum(1)[TARGET]))
    for k in range(2):
        value += unif(c[k]) + unif(own[k])
        value += 10 * float(np.mean((s[k] ** 2).sum(1)[~TARGET])) / 2
        joint = [
            math.log(
                np.mean([kernel(c[k][i], c[k][j]) * kernel(own[k][i], own[k][j]) for j in range(n)])
            )
            for i in range(n)
        ]
        value += 10 * float(np.mean(joint)) / 2
    return value


@pytest.mark.parametrize("tile", [None, 3])
def test_value_and_gradients_are_the_oracles(tile: int | None) -> None:
    assert_is_oracle(lambda *x: loss(x, tile=tile).value, oracle, arrays())


def test_terms_and_weights_add_up() -> None:
    given = [torch.tensor(x) for x in arrays()]
    t = loss(given).terms
    value = (
        t["align_common"] + 2 * t["unif_common"] + 3 * (t["align_salient"] + 2 * t["unif_salient"])
    )
    value = value + 0.5 * t["background"] + 7 * t["joint"]
    found = loss(given, salient_weight=3.0, background=0.5, joint=7.0)
    torch.testing.assert_close(found.value, value)


def test_joint_entropy() -> None:
    c1, _, s1, s2 = (torch.tensor(x) for x in arrays())
    every = torch.ones(7, dtype=torch.bool)
    one = torch.ones(7, 4, dtype=torch.float64)
    still = loss((one, one, s1, s1), every).terms["joint"]
    alone = loss((one, one, s2, s2), every).terms["joint"]
    of_s = np.mean([math.log(np.mean([kernel(a, b) for b in s1.numpy()])) for a in s1.numpy()])
    assert still.item() == pytest.approx(of_s)  # c constant: that of s' alone
    # The entropy of both is not below that of either.
    joint = loss((c1, c1, s1, s1), every).terms["joint"]
    nothing = torch.zeros(7, 3, dtype=torch.float64)
    assert joint <= still
    assert joint <= loss((c1, c1, nothing, nothing), every).terms["joint"]
    assert still != alone
    far = 1e3 * torch.arange(7, dtype=torch.float64)[:, None]
    assert loss((one, one, far, far), every).terms["joint"].item() == pytest.approx(-math.log(7))


def test_floor_of_uniformity_with_background() -> None:
    one = torch.ones(7, 4, dtype=torch.float64)
    far = 1e3 * torch.arange(1, 8, dtype=torch.float64)[:, None]
    found = loss((one, one, far, far)).terms["unif_salient"]
    assert found.item() == pytest.approx(math.log(3 * 2 / (7 * 6)))


def test_samples_that_are_missing() -> None:
    given = [torch.tensor(x, requires_grad=True) for x in arrays()]
    none = torch.zeros(7, dtype=torch.bool)
    assert loss(given, ~none).terms["background"] == 0
    assert loss(given, none).terms["align_salient"] == 0
    for which in (none, ~none, torch.arange(7) == 2):
        found = loss(given, which)
        grads = torch.autograd.grad(found.value, given)
        assert found.value.isfinite()
        assert all(g.isfinite().all() for g in grads)
    one = loss([x[:1] for x in given], target[:1])
    assert (one.terms["unif_common"], one.terms["joint"]) == (0, pytest.approx(0, abs=1e-12))
    here = torch.tensor([1, 0, 1, 1, 1, 1, 0]).bool()
    hole = torch.where(here[:, None], 0.0, torch.nan)
    masked = loss([x + hole for x in given], present=here)
    torch.testing.assert_close(masked.value, loss([x[here] for x in given], target[here]).value)
    assert loss(given, present=none).value == 0


def test_order_rotations_and_half_precision() -> None:
    given = [torch.tensor(x) for x in arrays()]
    value = loss(given).value
    order = torch.tensor([3, 1, 5, 0, 6, 4, 2])
    torch.testing.assert_close(loss([x[order] for x in given], target[order]).value, value)
    turn, other = (torch.linalg.qr(torch.randn(d, d).double())[0] for d in (4, 3))
    turned = [x @ t for x, t in zip(given, (turn, turn, other, other), strict=True)]
    torch.testing.assert_close(loss(turned).value, value)
    for dtype in (torch.float16, torch.bfloat16):
        low = [x.to(dtype) for x in given]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(low, temperature=0.01).value
        expected = loss([x.double() for x in low], temperature=0.01).value
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-3)


def test_memory_of_tiles_is_linear() -> None:
    given = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in arrays(64)]
    with Largest() as largest:
        loss(given, torch.arange(64) % 2 == 0, tile=8).value.backward()
    assert largest.elements <= 64 * 16


def test_supervised_alignment() -> None:
    s, y = np.random.default_rng(0).normal(size=(2, 6))

    def slow(s: np.ndarray) -> float:
        pairs = [(i, j) for i in range(6) for j in range(i)]
        near = [math.exp(-((y[i] - y[j]) ** 2) / 0.05) * (s[i] - s[j]) ** 2 for i, j in pairs]
        return float(np.mean(near))

    assert_is_oracle(lambda s: supervised_alignment(s, torch.tensor(y)), slow, [s])
    assert supervised_alignment(torch.ones(1), torch.ones(1)) == 0
    with pytest.raises(ValueError, match=r"salient: shape \(2,\), attribute: shape \(3,\)"):
        supervised_alignment(torch.ones(2), torch.ones(3))


def test_bad_input_is_named() -> None:
    c1, c2, s1, s2 = (torch.tensor(x) for x in arrays())
    with pytest.raises(ValueError, match="temperature: 0"):
        loss((c1, c2, s1, s2), temperature=0.0)
    with pytest.raises(ValueError, match=r"common 1: shape \(7, 4\), common 2: shape \(3, 4\)"):
        loss((c1, c2[:3], s1, s2))
    with pytest.raises(ValueError, match=r"salient 2: shape \(7, 2\); give both views"):
        loss((c1, c2, s1, s2[:, :2]))
    with pytest.raises(ValueError, match="target: 3 of 7 samples"):
        loss((c1, c2, s1, s2), target[:3])
