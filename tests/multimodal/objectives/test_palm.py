"""PALM against plain Python, and at the settings where it is a loss that is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from multimodal.objectives.palm import Palm, assign, palm
from tests.multimodal.objectives.checks import assert_is_oracle
from tests.multimodal.objectives.oracles import numpy_unit

LABELS = np.array([0, 2, 2, 0, 2, 0, 2])  # class 1 of 3 is absent
labels = torch.tensor(LABELS)


def start(classes: int = 3, each: int = 4, width: int = 3, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(classes * each, width))
    return numpy_unit(found).reshape(classes, each, width)


def rows(seed: int = 1, width: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(7, width))


def some(**shape: int) -> tuple[Tensor, Tensor]:
    return torch.tensor(rows()), torch.tensor(start(**shape))


def weights_oracle(z: np.ndarray, p: np.ndarray, nearest: int, epsilon: float) -> np.ndarray:
    """(N, C, K), each class's top-k of Sinkhorn's assignments."""
    classes, each, _ = p.shape
    q = np.exp(z @ p.reshape(classes * each, -1).T / epsilon)
    for _ in range(3):
        q = q / q.sum(0, keepdims=True)
        q = q / q.sum(1, keepdims=True)
    w = q.reshape(len(z), classes, each)
    for row in w.reshape(-1, each):
        row[np.argsort(row)[: each - nearest]] = 0
        row /= row.sum()
    return w


def oracle(
    raw: np.ndarray, p: np.ndarray, w: np.ndarray, *, m: float, form: str, on: str, contrast: float
) -> tuple[float, np.ndarray]:
    """Loss and prototypes, given the assignments w, which have no gradient."""
    z, (classes, each, _) = numpy_unit(raw), p.shape
    moved, means = p.copy(), p.copy()
    for c in range(classes):
        for k in range(each):
            mass = sum(w[i, c, k] for i in range(len(z)) if LABELS[i] == c)
            if mass:
                mean = sum(w[i, c, k] * z[i] for i in range(len(z)) if LABELS[i] == c) / mass
                means[c, k] = mean / np.linalg.norm(mean)
                to = m * p[c, k] + (1 - m) * mean
                moved[c, k] = to / np.linalg.norm(to)
    still = oracle_still(raw, p, w, m) if contrast else moved
    mle = 0.0
    for i, y in enumerate(LABELS):
        s = still @ z[i] / 0.1
        if form == "code":
            mle += math.log(np.exp(s).sum()) - float(w[i, y] @ s[y])
        else:
            mle -= math.log((w[i, y] @ np.exp(s[y])) / (w[i] * np.exp(s)).sum())
    if not contrast:
        return mle / len(z), moved
    q = (moved if on == "prototypes" else means).reshape(classes * each, -1)
    total = 0.0
    for i in range(len(q)):
        others = [j for j in range(len(q)) if j != i]
        lse = math.log(sum(math.exp(q[i] @ q[j] / 0.5) for j in others))
        total += np.mean([lse - q[i] @ q[j] / 0.5 for j in others if j // each == i // each])
    return float(mle / len(z) + contrast * total / len(q)), moved


STILL: dict[str, np.ndarray] = {}


def oracle_still(raw: np.ndarray, p: np.ndarray, w: np.ndarray, m: float) -> np.ndarray:
    """The prototypes that L_MLE reads, as of the rows that a test began with: no gradient."""
    return STILL.setdefault(
        f"{m}", oracle(raw, p, w, m=m, form="code", on="prototypes", contrast=0.0)[1]
    )


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("on", ["prototypes", "means"])
def test_value_gradient_and_update_are_the_oracles(form: Any, on: Any) -> None:
    z, p = rows(), start()
    w = weights_oracle(numpy_unit(z), p, 3, 0.5)
    options: dict[str, Any] = {"form": form, "contrast": 0.7, "contrast_on": on}
    options |= {"momentum": 0.5, "epsilon": 0.5, "nearest": 3}
    STILL.clear()
    assert_is_oracle(
        lambda z: palm(z, labels, torch.tensor(p), **options).loss.value,
        lambda z: oracle(z, p, w, m=0.5, form=form, on=on, contrast=0.7)[0],
        [z],
    )
    found = palm(torch.tensor(z), labels, torch.tensor(p), **options)
    expected = oracle(z, p, w, m=0.5, form=form, on=on, contrast=0.0)[1]
    np.testing.assert_allclose(found.prototypes, expected, rtol=1e-9)
    assert np.array_equal(found.prototypes[1], p[1])  # the class that the batch lacks
    assert not found.prototypes.requires_grad


def test_assignments_are_the_oracles() -> None:
    z, p = numpy_unit(rows()), start()
    logits = torch.tensor(np.einsum("nd,ckd->nck", z, p)) / 0.05
    for nearest in (1, 2, 4, 9):
        expected = weights_oracle(z, p, min(nearest, 4), 0.05)
        np.testing.assert_allclose(assign(logits, nearest), expected, rtol=1e-8, atol=1e-12)
    far = assign(200 * logits.float(), 2)
    torch.testing.assert_close(far.sum(2), torch.ones(7, 3))


def test_one_prototype_a_class_is_cross_entropy_with_running_class_means() -> None:
    z, p = some(each=1)
    found = palm(z, labels, p, momentum=0.9, contrast=0.0)
    means = torch.stack([normalize(z)[labels == c].mean(0) for c in (0, 2)])
    moved = p.clone()
    moved[[0, 2], 0] = normalize(0.9 * p[[0, 2], 0] + 0.1 * means)
    torch.testing.assert_close(found.prototypes, moved)
    expected = cross_entropy(normalize(z) @ moved[:, 0].T / 0.1, labels)
    torch.testing.assert_close(found.loss.value, expected)
    equal = palm(z, labels, p.expand(3, 5, 3), momentum=1.0, contrast=0.0, nearest=5)
    one = palm(z, labels, p, momentum=1.0, contrast=0.0)
    torch.testing.assert_close(equal.loss.value, one.loss.value + math.log(5))
    paper = palm(z, labels, p.expand(3, 5, 3), momentum=1.0, contrast=0.0, form="paper")
    torch.testing.assert_close(paper.loss.value, one.loss.value)
    assert palm(z, labels, p, contrast=1.0).loss.terms["contrast"] == 0


def test_the_published_momentum_switches_the_contrast_off() -> None:
    z, p = some()
    z.requires_grad_()

    def pull(**options: Any) -> float:
        whole, plain = (palm(z, labels, p, contrast=c, **options).loss.value for c in (1.0, 0.0))
        return torch.autograd.grad(whole - plain, z)[0].norm().item()

    sizes = [pull(momentum=m) for m in (0.0, 0.9, 0.99, 0.999)]
    assert sizes[3] < sizes[2] / 5 < sizes[1] / 25 < sizes[0] / 25
    assert pull(momentum=0.999, contrast_on="means") == pytest.approx(sizes[0])


def test_absent_rows_order_and_rotation() -> None:
    z, p = some()
    here = torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
    hole = torch.where(here[:, None], 0.0, torch.nan)
    masked, alone = palm(z + hole, labels, p, present=here), palm(z[here], labels[here], p)
    torch.testing.assert_close(masked.loss.value, alone.loss.value)
    torch.testing.assert_close(masked.prototypes, alone.prototypes)
    none = palm(z.requires_grad_(), labels, p, present=torch.zeros(7, dtype=torch.bool))
    assert none.loss.value == 0
    assert torch.equal(none.prototypes, p)
    order, turn = (
        torch.tensor([3, 1, 5, 0, 6, 4, 2]),
        torch.linalg.qr(torch.randn(3, 3).double())[0],
    )
    whole = palm(z, labels, p)
    moved = palm(5 * z[order] @ turn, labels[order], p @ turn)
    torch.testing.assert_close(moved.loss.value, whole.loss.value)
    torch.testing.assert_close(moved.prototypes, whole.prototypes @ turn)


def test_module_keeps_its_prototypes_with_the_model() -> None:
    one, other = (Palm(3, 5, per_class=2, momentum=0.5, seed=seed) for seed in (0, 1))
    z = torch.randn(7, 5)
    before = one.prototypes.clone()
    torch.testing.assert_close(before.norm(dim=2), torch.ones(3, 2))
    one.eval()(z, labels)
    assert torch.equal(one.prototypes, before)
    one.train()(z, labels)
    assert not torch.equal(one.prototypes[0], before[0])
    assert torch.equal(one.prototypes[1], before[1])
    other.load_state_dict(one.state_dict())
    for _ in range(3):
        assert torch.equal(one(z, labels).value, other(z, labels).value)
        assert torch.equal(one.prototypes, other.prototypes)


def test_classes_that_are_not_known_yet_take_no_part() -> None:
    module = Palm(3, 5, per_class=2, momentum=0.5)
    z, known = torch.randn(7, 5), torch.tensor([True, False, True])
    before = module.prototypes.clone()
    expected = palm(z, labels // 2, before[[0, 2]], momentum=0.5)
    loss = module(z, labels, known=known)
    torch.testing.assert_close(loss.value, expected.loss.value)
    torch.testing.assert_close(module.prototypes[[0, 2]], expected.prototypes)
    assert torch.equal(module.prototypes[1], before[1])
    here = torch.arange(7) > 0
    module.eval()(z, torch.where(here, labels, -1), known=known, present=here)
    with pytest.raises(ValueError, match="labels: 1; no known class"):
        module(z[:2], torch.tensor([0, 1]), known=known)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_a_silent_recording(dtype: torch.dtype) -> None:
    z, p = some()
    z[0] = 0
    low = z.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = palm(low, labels, p.float(), temperature=0.01)
    expected = palm(low.double(), labels, p, temperature=0.01)
    torch.testing.assert_close(found.loss.value, expected.loss.value.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.prototypes, expected.prototypes.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nearest": 0}, "nearest: 0; give at least 1"),
        ({"epsilon": 0.0}, "epsilon: 0.0; give a number above 0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"momentum": 1.5}, "momentum: 1.5"),
        ({"form": "x"}, "form: 'x'; choose one of code, paper"),
        ({"contrast_on": "x"}, "contrast_on: 'x'; choose one of prototypes, means"),
        ({"labels": torch.tensor([0, 3, 3, 0, 1, 0, -1])}, "labels: -1, 3; no known class"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    z, p = some()
    with pytest.raises(ValueError, match=message):
        palm(z, options.pop("labels", labels), p, **options)
