"""Distillation against NumPy, closed forms and finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
    softmax,
)

from multimodal.objectives.distillation import (
    answer_distillation,
    feature_distillation,
    sequence_cross_entropy,
    token_distillation,
)

REDUCTIONS: Any = ("token_mean", "sequence_mean", "sum")
LENGTHS = (4, 0, 2)
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
KNOWN = torch.tensor([True, False, True, True, False])


def two(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    one, other = 2 * torch.randn(2, *shape, generator=random, dtype=torch.float64)
    return one.requires_grad_(), other


def numpy_log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def words(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (3, 4, 5); targets, -100 where there is none."""
    logits, _ = two(3, 4, 5, seed=seed)
    targets = torch.randint(0, 5, (3, 4), generator=torch.Generator().manual_seed(seed))
    return logits, targets.masked_fill(~MASK, -100)


# ---- oracles --------------------------------------------------------------------------------


def test_features_are_compared_over_real_frames() -> None:
    student, teacher = two(3, 4, 5)
    pairs = zip(student.detach().numpy(), teacher.numpy(), LENGTHS, strict=True)
    errors = [((s[:n] - t[:n]) ** 2).ravel() for s, t, n in pairs]
    expected = np.concatenate(errors).mean()
    assert feature_distillation(student, teacher, MASK).item() == pytest.approx(expected, rel=1e-12)


def test_tokens_are_compared_as_distributions() -> None:
    student, teacher = two(3, 4, 5)
    found = []
    for row, length in enumerate(LENGTHS):
        for j in range(length):
            p = np.exp(numpy_log_softmax(teacher[row, j].numpy()))
            found.append(-(p * numpy_log_softmax(student[row, j].detach().numpy())).sum())
    value = token_distillation(student, teacher, MASK)
    assert value.item() == pytest.approx(np.mean(found), rel=1e-12)
    alike = token_distillation(teacher.clone(), teacher, MASK)
    p = teacher[MASK].softmax(-1)
    assert alike.item() == pytest.approx(-(p * p.log()).sum(-1).mean().item(), rel=1e-12)
    assert value > alike


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_texts_cost_their_negative_log_probability(reduction: Any, smoothing: float) -> None:
    logits, targets = words()
    texts = []
    for row, length in enumerate(LENGTHS):
        log_p = numpy_log_softmax(logits[row].detach().numpy())
        tokens = targets[row].tolist()
        own = [(1 - smoothing) * log_p[j, tokens[j]] for j in range(length)]
        rest = [smoothing * log_p[j].mean() for j in range(length)]
        texts.append(-sum(own) - sum(rest))
    count = {"token_mean": 6, "sequence_mean": 2, "sum": 1}[reduction]
    value = sequence_cross_entropy(
        logits, targets, MASK, reduction=reduction, label_smoothing=smoothing
    )
    assert value.item() == pytest.approx(sum(texts) / count, rel=1e-12)


def test_a_token_mean_is_that_of_ignored_padding() -> None:
    logits, targets = words(1)
    expected = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    torch.testing.assert_close(sequence_cross_entropy(logits, targets, MASK), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_answers_are_compared_over_known_classes(temperature: float) -> None:
    student, teacher = two(6, 5)
    now, past = (x.detach().numpy()[:, KNOWN.numpy()] / temperature for x in (student, teacher))
    p, log_q = np.exp(numpy_log_softmax(past)), numpy_log_softmax(now)
    value = answer_distillation(student, teacher, KNOWN, temperature=temperature)
    assert value.item() == pytest.approx(-(p * log_q).sum(1).mean(), rel=1e-12)
    p, q = 1 / (1 + np.exp(-past)), 1 / (1 + np.exp(-now))
    cells = p * np.log(q) + (1 - p) * np.log(1 - q)
    value = answer_distillation(student, teacher, KNOWN, temperature=temperature, multi_label=True)
    assert value.item() == pytest.approx(-cells.mean(), rel=1e-12)


def test_answers_have_the_bits_that_lwf_always_had() -> None:
    random = torch.Generator().manual_seed(1)
    now, past = torch.randn(2, 33, 5, generator=random)
    kept, old = now[:, KNOWN] / 2.0, past[:, KNOWN] / 2.0
    expected = -(softmax(old, 1) * log_softmax(kept, 1)).sum(1).mean()
    assert torch.equal(answer_distillation(now, past, KNOWN, temperature=2.0), expected)
    expected = binary_cross_entropy_with_logits(kept, old.sigmoid())
    found = answer_distillation(now, past, KNOWN, temperature=2.0, multi_label=True)
    assert torch.equal(found, expected)


# ---- closed forms ---------------------------------------------------------------------------


def test_closed_forms() -> None:
    flat, ones = torch.zeros(3, 4, 5), torch.ones(3, 4, 5)
    assert feature_distillation(ones, flat, MASK) == 1
    assert feature_distillation(ones, ones, MASK) == 0
    log5 = pytest.approx(math.log(5), rel=1e-6)
    assert token_distillation(flat, 3 * torch.randn(3, 4, 5), MASK).item() == log5
    tokens = torch.zeros(3, 4, dtype=torch.int64)
    factors: Any = {"token_mean": 1, "sequence_mean": 3, "sum": 6}
    for reduction, factor in factors.items():
        value = sequence_cross_entropy(flat, tokens, MASK, reduction=reduction)
        assert value.item() / factor == log5
    assert answer_distillation(flat[0], torch.randn(4, 5), KNOWN).item() == pytest.approx(
        math.log(3), rel=1e-6
    )


def test_a_token_that_cannot_be_said_counts_nothing() -> None:
    student, teacher = two(3, 4, 5)
    barred = torch.tensor([0.0, 0.0, 0.0, 0.0, -math.inf])
    value = token_distillation(student + barred, teacher + barred, MASK)
    expected = token_distillation(student[..., :4], teacher[..., :4], MASK)
    torch.testing.assert_close(value, expected)
    (grad,) = torch.autograd.grad(value, student)
    assert grad.isfinite().all()


# ---- gradients, masks, nothing --------------------------------------------------------------


def losses(student: Tensor, teacher: Tensor, mask: Tensor, targets: Tensor) -> list[Tensor]:
    """student, teacher: (N, T, 5)."""
    answers = (student.flatten(0, 1), teacher.flatten(0, 1), KNOWN)
    return [
        feature_distillation(student, teacher, mask),
        token_distillation(student, teacher, mask),
        *(sequence_cross_entropy(student, targets, mask, reduction=r) for r in REDUCTIONS),
        sequence_cross_entropy(student, targets, mask, label_smoothing=0.1),
        answer_distillation(*answers),
        answer_distillation(*answers, multi_label=True, temperature=2.0),
    ]


def test_gradients_are_those_of_finite_differences_and_of_the_student_alone() -> None:
    student, teacher = two(3, 4, 5)
    _, targets = words()
    teacher.requires_grad_()

    def of(student: Tensor) -> Tensor:
        return torch.stack(losses(student, teacher, MASK, targets))

    assert torch.autograd.gradcheck(of, student)
    of(student).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("rows", [3, 0])
def test_without_anything_it_is_0_with_a_graph(rows: int) -> None:
    student, teacher = two(rows, 4, 5)
    nothing, targets = torch.zeros(rows, 4, dtype=torch.bool), torch.full((rows, 4), -100)
    found = losses(student, teacher, nothing, targets)
    unknown = torch.zeros(5, dtype=torch.bool)
    for multi_label in (False, True):
        answers = (student.flatten(0, 1), teacher.flatten(0, 1), unknown)
        found.append(answer_distillation(*answers, multi_label=multi_label))
    if rows:  # of answers no mask leaves rows out
        del found[6:8]
    for value in found:
        assert value == 0
        (grad,) = torch.autograd.grad(value, student)
        assert grad.shape == student.shape
        assert not grad.any()


def test_what_is_masked_is_never_read() -> None:
    student, teacher = two(3, 4, 5)
    _, targets = words()
    expected = losses(student, teacher, MASK, targets)[:6]
    blank = student.detach().masked_fill(~MASK[..., None], math.nan).requires_grad_()
    found = losses(blank, teacher.masked_fill(~MASK[..., None], math.nan), MASK, targets)[:6]
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value, wanted)
        (grad,) = torch.autograd.grad(value, blank)
        assert grad.isfinite().all()
        assert not grad[~MASK].any()
    columns = torch.where(KNOWN, student.detach()[0], math.nan)
    value = answer_distillation(columns, torch.where(KNOWN, teacher[0], math.nan), KNOWN)
    torch.testing.assert_close(value, answer_distillation(student.detach()[0], teacher[0], KNOWN))


def test_half_precision_is_reduced_in_float32() -> None:
    student, teacher = (x.detach().bfloat16() for x in two(3, 4, 5))
    _, targets = words()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.stack(losses(student, teacher, MASK, targets))
    assert found.dtype == torch.float32
    expected = losses(student.float(), teacher.float(), MASK, targets)
    torch.testing.assert_close(found, torch.stack(expected))


def test_options_that_do_not_fit_are_named() -> None:
    logits, targets = words()
    wrong: Any = "mean"
    with pytest.raises(ValueError, match="reduction: 'mean'; choose one of token_mean"):
        sequence_cross_entropy(logits, targets, MASK, reduction=wrong)
    with pytest.raises(ValueError, match="label_smoothing: 1"):
        sequence_cross_entropy(logits, targets, MASK, label_smoothing=1.0)
