"""Decoupled softmax and soft top-k: loops as oracles, exact examples, labels that are unknown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.dexml import decoupled_rows, decoupled_softmax, soft_top_k, top_k_rows
from multimodal.objectives.tools.top_k import soft_top_k_logits
from multimodal.objectives.views import TEXT, Labels, Views
from tests.multimodal.objectives.differences import by_differences
from tests.multimodal.objectives.oracles import leaf, numpy_unit

LOSSES = {"decoupled_softmax": decoupled_softmax, "soft_top_k": soft_top_k}
IDS = np.array([0, 1, 0, 2, 1, 3])
KEEP = np.array([1, 1, 0, 1, 1, 1], dtype=bool)
# Of six signals and four labels; the third has none, of some nothing is known.
OWN = np.array(
    [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0], [0, 1, 0, 1]], dtype=bool
)
KNOWN = OWN | np.array(
    [[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 1, 0]], dtype=bool
)


def threshold(s: list[float], k: int, alpha: float) -> float:
    low, high, t = -1e3, 1e3, 0.0
    for _ in range(200):
        t = (low + high) / 2
        total = sum(1 / (1 + math.exp(min(-alpha * (x + t), 500))) for x in s)
        low, high = (t, high) if total < k else (low, t)
    return t


def row(name: str, s: np.ndarray, own: np.ndarray, known: np.ndarray) -> float | None:
    """The loss of one row of scores; None without a positive."""
    right = [i for i in range(len(s)) if own[i] and known[i]]
    wrong = [i for i in range(len(s)) if known[i] and not own[i]]
    if not right:
        return None
    if name == "decoupled_softmax":
        rest = sum(math.exp(s[n]) for n in wrong)
        return -sum(math.log(math.exp(s[p]) / (math.exp(s[p]) + rest)) for p in right) / len(right)
    if not wrong:
        return 0.0
    t = threshold([s[i] for i in right + wrong], len(right), 2.0)
    return sum(math.log1p(math.exp(-2.0 * (s[p] + t))) for p in right) / len(right)


def mean_of(name: str, scores: np.ndarray, own: np.ndarray, known: np.ndarray) -> float:
    values = [row(name, *x) for x in zip(scores, own, known, strict=True)]
    return float(np.mean([x for x in values if x is not None]))


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_of_labels_value_and_gradients_are_the_oracles(name, masked, tile) -> None:
    random = np.random.default_rng(0)
    a, b, scale = random.normal(size=(6, 3)), random.normal(size=(4, 3)), np.array(3.0)
    keep = KEEP if masked else np.ones_like(KEEP)

    def slow(*x: np.ndarray) -> float:
        scores = float(x[2]) * numpy_unit(x[0][keep]) @ numpy_unit(x[1]).T
        return mean_of(name, scores, OWN[keep], KNOWN[keep])

    leaves = [leaf(x) for x in (a, b, scale)]
    loss = LOSSES[name](
        *leaves,
        positives=torch.from_numpy(OWN),
        candidates=torch.from_numpy(KNOWN),
        present=torch.from_numpy(KEEP) if masked else None,
        tile=tile,
    )
    assert loss.value.item() == pytest.approx(slow(a, b, scale), rel=1e-6)
    grads = torch.autograd.grad(loss.value, leaves)
    for ours, expected in zip(grads, by_differences(slow, [a, b, scale]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    assert loss.terms["positives"].item() == pytest.approx(OWN[keep].sum(1).mean())
    assert loss.terms["candidates"].item() == pytest.approx(KNOWN[keep].sum(1).mean())


@pytest.mark.parametrize("tile", [None, 4])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_of_equal_texts_value_and_gradients_are_the_oracles(name, both, tile) -> None:
    random = np.random.default_rng(1)
    a, b, scale = *random.normal(size=(2, 6, 3)), np.array(3.0)
    same = IDS[:, None] == IDS

    def slow(*x: np.ndarray) -> float:
        scores = float(x[2]) * numpy_unit(x[0]) @ numpy_unit(x[1]).T
        ways = [scores, scores.T] if both else [scores]
        return float(np.mean([mean_of(name, s, same, same | True) for s in ways]))

    leaves = [leaf(x) for x in (a, b, scale)]
    loss = LOSSES[name](*leaves, ids=torch.from_numpy(IDS), both_ways=both, tile=tile)
    assert loss.value.item() == pytest.approx(slow(a, b, scale), rel=1e-6)
    grads = torch.autograd.grad(loss.value, leaves)
    for ours, expected in zip(grads, by_differences(slow, [a, b, scale]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


# ---- exact examples -------------------------------------------------------------------------


def test_with_one_positive_decoupled_is_info_nce() -> None:
    random = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 7, 4, generator=random, dtype=torch.float64)
    s = torch.tensor(20.0, dtype=torch.float64)
    nce = info_nce(a, b, s)
    torch.testing.assert_close(decoupled_softmax(a, b, s).value, nce.terms["a_to_b"])
    torch.testing.assert_close(decoupled_softmax(a, b, s, both_ways=True).value, nce.value)


def test_the_better_of_two_positives_is_not_pushed_down() -> None:
    s = leaf([[3.0, 1.0, 0.0, -1.0]])
    own = torch.tensor([[True, True, False, False]])
    plain = -(s.log_softmax(1) * own).sum()
    assert torch.autograd.grad(plain, s)[0][0, 0].item() == pytest.approx(0.66, abs=0.01)
    loss = decoupled_rows(s, own, torch.ones_like(own)).sum()
    found = torch.autograd.grad(loss, s)[0][0, :2]
    np.testing.assert_allclose(found, [-0.03, -0.17], atol=0.01)


def probabilities(s: torch.Tensor, k: int, alpha: float = 2.0) -> torch.Tensor:
    every = torch.ones_like(s, dtype=torch.bool)
    return soft_top_k_logits(s, torch.full((len(s),), k), every, alpha=alpha).sigmoid()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 9), spread=st.floats(0.1, 20))
def test_soft_top_k_adds_up_and_is_done_when_hard(seed: int, k: int, spread: float) -> None:
    random = torch.Generator().manual_seed(seed)
    s = spread * torch.randn(2, 1000, generator=random, dtype=torch.float64)
    assert (probabilities(s, k).sum(1) - k).abs().max() < 1e-6
    # Scores that are 1 apart, in any order.
    apart = torch.randperm(20, generator=random).double()[None]
    hard = probabilities(apart, k, alpha=80.0)
    assert torch.equal(hard.round(), (apart >= 20 - k).double())
    assert (hard - hard.round()).abs().max() < 1e-6


def test_the_bracket_holds_for_one_of_a_hundred_thousand() -> None:
    s = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert (probabilities(s, 1).sum() - 1).abs() < 1e-6


def test_implicit_gradient_is_that_of_differences_and_adds_up_to_nothing() -> None:
    raw = np.random.default_rng(4).normal(size=(1, 6))
    s = leaf(raw)
    jacobian: Any = torch.autograd.functional.jacobian(lambda x: probabilities(x, 2)[0], s)
    found = jacobian[:, 0]
    for place in range(6):

        def one(x: np.ndarray, place: int = place) -> float:
            t = threshold(list(x[0]), 2, 2.0)
            return 1 / (1 + math.exp(-2.0 * (x[0, place] + t)))

        (expected,) = by_differences(one, [raw])
        np.testing.assert_allclose(found[place], expected[0], rtol=1e-5, atol=1e-8)
    assert found.sum(1).abs().max() < 1e-12
    assert found.sum(0).abs().max() < 1e-7


def test_scores_far_apart_have_finite_gradients() -> None:
    """Every v underflows in float32, and a masked score is as low as it likes."""
    s = torch.tensor([[300.0, -300.0, -310.0, float("-inf")]], requires_grad=True)
    there = torch.tensor([[True, True, True, False]])
    for place in range(3):
        own = torch.zeros_like(there)
        own[0, place] = True
        for rows in (decoupled_rows, top_k_rows):
            (grad,) = torch.autograd.grad(rows(s, own, there).sum(), s)
            assert grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_where_everything_is_right_or_nothing_the_loss_is_nothing(name) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    s, loss = torch.tensor(20.0), LOSSES[name]
    alike = loss(x, x, s, ids=torch.zeros(3, dtype=torch.int64)).value
    alone = loss(x[:1], x[:1], s).value
    none = loss(x, x[:2], s, positives=torch.zeros(3, 2, dtype=torch.bool)).value
    gone = loss(x, x, s, present=torch.zeros(3, dtype=torch.bool)).value
    for value in (alike, alone, none, gone):
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert torch.autograd.grad(value, x)[0].abs().max() < 1e-6


def test_k_of_ones_own() -> None:
    random = torch.Generator().manual_seed(6)
    a, b = torch.randn(2, 6, 4, generator=random, dtype=torch.float64)
    s = torch.tensor(20.0, dtype=torch.float64)
    assert soft_top_k(a, b, s, k=3).value < soft_top_k(a, b, s, k=1).value
    torch.testing.assert_close(soft_top_k(a, b, s, k=1).value, soft_top_k(a, b, s).value)
    assert soft_top_k(a, b, s, k=6).value == 0  # all are chosen
    with pytest.raises(ValueError, match="k: 0"):
        soft_top_k(a, b, s, k=0)


# ---- settings -------------------------------------------------------------------------------


def views_of(labels: Labels | None) -> Views:
    a, b = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(7))
    ids, scale = torch.from_numpy(IDS), torch.tensor(20.0)
    return Views({"xray": a, TEXT: b}, b, ids, scale, torch.tensor(0.0), labels=labels)


@pytest.mark.parametrize("name", LOSSES)
def test_its_config_goes_by_equal_texts_or_by_labels(name) -> None:
    views = views_of(None)
    a, b, ids, s = *views.embeddings.values(), views.ids, views.scale
    usual: Any = OBJECTIVES.parse(name)
    expected = LOSSES[name](a, b, s, ids=ids)
    torch.testing.assert_close(usual.of_views(views, gather=False).value, expected.value)
    own: Any = OBJECTIVES.parse({"name": name, "mask_duplicates": False, "both_ways": True})
    expected = LOSSES[name](a, b, s, both_ways=True)
    torch.testing.assert_close(own.of_views(views, gather=False).value, expected.value)
    labels: Any = OBJECTIVES.parse({"name": name, "candidates": "labels"})
    assert labels.needs_labels
    with pytest.raises(ValueError, match="candidates=labels goes by the classes"):
        labels.of_views(views, gather=False)
    targets = torch.where(torch.from_numpy(KNOWN), torch.from_numpy(OWN).float(), torch.nan)
    shown, texts = torch.tensor([True, True, False, True]), torch.randn(4, 3)
    found = labels.of_views(views_of(Labels(texts, targets, shown)), gather=False)
    masks = [torch.from_numpy(x) & shown for x in (OWN, KNOWN)]
    expected = LOSSES[name](a, texts, s, positives=masks[0], candidates=masks[1])
    torch.testing.assert_close(found.value, expected.value)


def test_rows_say_what_is_not_as_usual() -> None:
    def named(**fields: Any) -> str:
        return OBJECTIVES.parse(fields).row_name

    assert named(name="decoupled_softmax") == "decoupled_softmax"
    assert named(name="decoupled_softmax", scale=50.0) == "decoupled_softmax, scale fixed at 50"
    found = named(name="soft_top_k", candidates="labels", k=5, alpha=3.0)
    assert found == "soft_top_k of labels, k 5, alpha 3"
    with pytest.raises(ValidationError, match="both_ways: labels choose nothing"):
        OBJECTIVES.parse({"name": "soft_top_k", "candidates": "labels", "both_ways": True})


def test_what_does_not_fit_is_named() -> None:
    x, s = torch.eye(3), torch.tensor(5.0)
    with pytest.raises(ValueError, match=r"positives: shape \(3, 2\)"):
        decoupled_softmax(x, x, s, positives=torch.ones(3, 2, dtype=torch.bool))
    every = torch.ones(3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="candidates: shape"):
        soft_top_k(x, x, s, positives=every, candidates=every.float())
    with pytest.raises(ValueError, match="signals: shape"):
        decoupled_softmax(x, x[:2], s)
