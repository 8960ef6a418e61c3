"""DeGLA against plain Python, and at the settings where its parts are known."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.degla import (
    Seen,
    clip_with_negatives,
    degla,
    distillation,
    own_contrast,
)
from tests.multimodal.objectives.checks import assert_is_oracle, pair
from tests.multimodal.objectives.oracles import numpy_unit

N, K, D = 5, 3, 4
SCALE = torch.tensor(6.0, dtype=torch.float64)
ALLOWED = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]], dtype=bool)


def arrays(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) for shape in ((N, D), (N, D), (N, K, D))]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def lse(values: list[float]) -> float:
    return float(np.logaddexp.reduce(values))


def oracle(u, v, n, teacher: list[np.ndarray], allowed: np.ndarray) -> float:
    u, v, n = numpy_unit(u), numpy_unit(v), unit(n)
    ubar, vbar, nbar = (unit(x) for x in teacher)
    false = [n[i, j] for i in range(N) for j in range(K) if allowed[i, j]]
    forth = [lse([6 * u[i] @ t for t in [*v, *false]]) - 6 * u[i] @ v[i] for i in range(N)]
    back = [lse([6 * v[i] @ s for s in u]) - 6 * v[i] @ u[i] for i in range(N)]
    own = [[n[i, j] for j in range(K) if allowed[i, j]] for i in range(N)]
    igc = [lse([6 * u[i] @ t for t in [v[i], *own[i]]]) - 6 * u[i] @ v[i] for i in range(N)]
    tgc = [lse([10 * v[i] @ t for t in [vbar[i], *own[i]]]) - 10 * v[i] @ vbar[i] for i in range(N)]
    apart = [*((u - ubar) ** 2).sum(1), *((v - vbar) ** 2).sum(1)]
    apart += list(((n - nbar) ** 2).sum(2)[allowed])
    clip = (np.mean(forth) + np.mean(back)) / 2
    return float(clip + 0.1 * np.mean(igc) + 0.1 * np.mean(tgc) + 7.68 * np.mean(apart))


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("some", [False, True])
def test_value_and_gradients_are_the_oracles(some: bool, tile: int | None) -> None:
    teacher, allowed = arrays(1), ALLOWED if some else np.ones((N, K), dtype=bool)
    seen = Seen._make(map(torch.tensor, teacher))
    given = torch.tensor(ALLOWED) if some else None
    assert_is_oracle(
        lambda u, v, n: degla(Seen(u, v, n), seen, SCALE, allowed=given, tile=tile).value,
        lambda u, v, n: oracle(u, v, n, teacher, allowed),
        arrays(),
    )


def tensors(seed: int = 0, grad: bool = False) -> Seen:
    return Seen._make(torch.tensor(x, requires_grad=grad) for x in arrays(seed))


def test_published_strength_of_distillation() -> None:
    """0.005 times a sum over 256 items of a signal and 1 + 4 texts is 7.68 times our mean."""
    weight = inspect.signature(degla).parameters["distillation_weight"].default
    assert weight == pytest.approx(0.005 * (2 + 4) * 256)
    student, teacher = tensors(0), tensors(1)
    total = sum(
        (torch.nn.functional.normalize(a, dim=-1) - torch.nn.functional.normalize(b, dim=-1))
        .square()
        .sum()
        for a, b in zip(student, teacher, strict=True)
    )
    torch.testing.assert_close(distillation(student, teacher).value * (2 + K) * N, total)


def test_a_teacher_that_is_the_student() -> None:
    student = tensors(grad=True)
    found = distillation(student, student)
    assert found.value == 0
    assert not any(g.any() for g in torch.autograd.grad(found.value, student))


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = tensors(grad=True), tensors(1, grad=True)
    value = degla(student, teacher, SCALE).value
    grads = torch.autograd.grad(value, teacher, allow_unused=True)
    assert grads == (None, None, None)


def test_without_false_captions_it_is_clip_and_distillation() -> None:
    u, v, _ = tensors()
    none = u.new_zeros(N, 0, D)
    student, (a, b, _) = Seen(u, v, none), tensors(1)
    loss = degla(student, Seen(a, b, none), SCALE)
    clip = info_nce(u, v, SCALE)
    expected = clip.value + 7.68 * distillation(student, Seen(a, b, none)).value
    torch.testing.assert_close(loss.value, expected)
    assert loss.terms["igc"] == loss.terms["tgc"] == 0
    for key in ("a_to_b", "b_to_a", "accuracy_a_to_b"):
        torch.testing.assert_close(loss.terms[key], clip.terms[key])


def test_other_items_false_captions_are_of_clip_alone() -> None:
    u, v, n = tensors()
    other = n.clone()
    other[1:] = tensors(3).negatives[1:]

    def first(x: Tensor, negatives: Tensor) -> Tensor:
        present = torch.arange(N) == 0
        return own_contrast(x, v, negatives, SCALE, present=present).value

    assert torch.equal(first(u, n), first(u, other))
    changed = [clip_with_negatives(u, v, x, SCALE).value for x in (n, other)]
    assert changed[0] != changed[1]


@pytest.mark.parametrize("tile", [None, 2])
def test_absent_rows_and_captions_are_not_read(tile: int | None) -> None:
    here, allowed = torch.tensor([1, 0, 1, 1, 0]).bool(), torch.tensor(ALLOWED)
    hole = torch.where(here[:, None], 0.0, torch.nan)
    gap = torch.where(allowed, 0.0, torch.nan)[..., None]

    def spoilt(x: Seen) -> Seen:
        return Seen(x.signals + hole, x.texts + hole, x.negatives + hole[..., None] + gap)

    student, teacher = tensors(), tensors(1)
    options: dict[str, Any] = {"tile": tile}
    found = degla(spoilt(student), spoilt(teacher), SCALE, allowed=allowed, present=here, **options)
    some = [Seen._make(x[here] for x in seen) for seen in (student, teacher)]
    expected = degla(some[0], some[1], SCALE, allowed=allowed[here], **options)
    torch.testing.assert_close(found.value, expected.value)
    for key, term in expected.terms.items():
        torch.testing.assert_close(found.terms[key], term)
    assert degla(student, teacher, SCALE, present=here & ~here).value == 0


def test_order_rotation_lengths_and_half_precision() -> None:
    student, teacher = tensors(), tensors(1)
    value = degla(student, teacher, SCALE).value
    order, turn = torch.tensor([3, 1, 4, 0, 2]), torch.linalg.qr(torch.randn(D, D).double())[0]
    moved = [Seen._make(5 * x[order] @ turn for x in seen) for seen in (student, teacher)]
    torch.testing.assert_close(degla(moved[0], moved[1], SCALE).value, value)
    for dtype in (torch.float16, torch.bfloat16):
        low = [Seen._make(x.to(dtype) for x in seen) for seen in (student, teacher)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = degla(low[0], low[1], torch.tensor(100.0)).value
        wide = [Seen._make(x.double() for x in seen) for seen in low]
        expected = degla(wide[0], wide[1], torch.tensor(100.0)).value.float()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    one = [Seen._make(x[:1] for x in seen) for seen in (student, teacher)]
    assert degla(one[0], one[1], SCALE).value.isfinite()


def test_bad_input_is_named() -> None:
    u, v, n = tensors()
    with pytest.raises(ValueError, match=r"signals: shape \(5, 4\), texts: shape \(3, 4\)"):
        clip_with_negatives(u, v[:3], n, SCALE)
    with pytest.raises(ValueError, match=r"negatives: shape \(3, 3, 4\); give K of each row"):
        own_contrast(u, v, n[:3], SCALE)
    with pytest.raises(ValueError, match=r"allowed negatives: shape \(5, 2\)"):
        clip_with_negatives(u, v, n, SCALE, allowed=torch.ones(5, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"teacher: \(5, 4, 4\) vectors .* has \(5, 5, 4\)"):
        distillation(Seen(u, v, n), Seen(u, v, n[:, :2]))
    a, b = pair(5, 4)
    with pytest.raises(ValueError, match=r"scale: shape \(2,\)"):
        own_contrast(a, b, n, torch.ones(2))
