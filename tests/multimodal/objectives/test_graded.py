"""Losses of graded similarity against plain Python and at the points where values are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import rankdata

from multimodal.objectives import Loss
from multimodal.objectives.graded import pearson, pro, rank_kl
from tests.multimodal.objectives.checks import assert_is_oracle

GOLD = np.array([0.5, 2.0, 2.0, -1.0, 4.0, 0.5, 3.0])
gold = torch.tensor(GOLD)
LOSSES: list[Callable[..., Loss]] = [pearson, rank_kl, pro]


def predictions(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, size=7)


def rank_kl_oracle(x: np.ndarray) -> float:
    t = (rankdata(GOLD) - 1) / (len(GOLD) - 1)
    p, q = softmax(t / 0.05), softmax(x / 0.05)
    return float(np.sum(p * np.log(p / q)))


def pro_oracle(x: np.ndarray) -> float:
    losses = []
    for k in range(len(x)):
        lower = [j for j in range(len(x)) if GOLD[j] < GOLD[k]]
        if lower:
            own = max(GOLD[k] - GOLD[j] for j in lower) * x[k] / 0.05
            others = [(GOLD[k] - GOLD[j]) * x[j] / 0.05 for j in lower]
            losses.append(np.logaddexp.reduce([own, *others]) - own)
    return float(np.mean(losses))


def test_value_and_gradients_are_the_oracles() -> None:
    for function, oracle in (
        (pearson, lambda x: 1 - float(np.corrcoef(x, GOLD)[0, 1])),
        (rank_kl, rank_kl_oracle),
        (pro, pro_oracle),
    ):
        assert_is_oracle(lambda x, f=function: f(x, gold).value, oracle, [predictions()])


def test_perfect_predictions() -> None:
    assert pearson(0.1 * gold - 0.3, gold).value.item() == pytest.approx(0, abs=1e-12)
    assert pearson(-gold, gold).value.item() == pytest.approx(2)
    t = torch.tensor((rankdata(GOLD) - 1) / 6)
    assert rank_kl(t - 0.4, gold).value.item() == pytest.approx(0, abs=1e-12)
    assert rank_kl(gold, gold).value > 0.1


def test_pro_of_two_pairs() -> None:
    x, y = torch.tensor([0.3, 0.1]), torch.tensor([3.0, 1.5])
    expected = torch.nn.functional.softplus(torch.tensor(-1.5 * 0.2 / 0.1))
    torch.testing.assert_close(pro(x, y, temperature=0.1).value, expected)
    assert pro(x, y).terms["compared"] == 1


@pytest.mark.parametrize("function", LOSSES)
def test_nothing_to_compare_is_finite(function: Callable[..., Loss]) -> None:
    for x, y in (
        (predictions()[:1], GOLD[:1]),  # one pair
        (predictions(), np.full(7, 2.0)),  # all alike
        (np.full(7, 0.3), GOLD),  # constant predictions
    ):
        leaf = torch.tensor(x, requires_grad=True)
        value = function(leaf, torch.tensor(y)).value
        (grad,) = torch.autograd.grad(value, leaf)
        assert value.isfinite()
        assert grad.isfinite().all()
    assert pearson(torch.full((7,), 0.3), gold).value == 1
    for one in (pearson, pro):
        assert one(torch.tensor(predictions()), torch.full((7,), 2.0)).value == 0


@pytest.mark.parametrize("function", LOSSES)
def test_order_absent_pairs_and_half_precision(function: Callable[..., Loss]) -> None:
    x, order = torch.tensor(predictions()), torch.tensor([3, 1, 5, 0, 6, 4, 2])
    value = function(x, gold).value
    torch.testing.assert_close(function(x[order], gold[order]).value, value)
    torch.testing.assert_close(function(x, gold.float()).value, value)
    some = torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
    hole = torch.where(some, 0.0, torch.nan)
    masked = function((x + hole).requires_grad_(), gold + hole, present=some)
    torch.testing.assert_close(masked.value.detach(), function(x[some], gold[some]).value)
    assert function(x, gold, present=~some & some).value == 0
    low = x.half()
    found = function(low, gold).value
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, function(low.double(), gold).value.float())


def test_rank_kl_divides_by_nothing() -> None:
    """Twice the pairs, each of them twice: the same divergence, in which n does not occur."""
    x = torch.tensor(predictions())
    doubled = rank_kl(x.repeat(2), gold.repeat(2)).value
    t = (rankdata(np.tile(GOLD, 2)) - 1) / 13
    p, q = softmax(t / 0.05), softmax(np.tile(x.numpy(), 2) / 0.05)
    assert doubled.item() == pytest.approx(float(np.sum(p * np.log(p / q))))
    assert rank_kl(x, gold).terms["target_entropy"] < math.log(7)


@pytest.mark.parametrize("function", LOSSES)
def test_bad_input_is_named(function: Callable[..., Loss]) -> None:
    with pytest.raises(ValueError, match=r"predicted: shape \(7,\), gold: shape \(6,\)"):
        function(torch.zeros(7), torch.zeros(6))
    if function is not pearson:
        with pytest.raises(ValueError, match=r"temperature: 0\.0; give a number above 0"):
            function(torch.zeros(7), gold, temperature=0.0)
