"""Mann-Whitney loss: a loop over pairs, its bound, what InfoNCE cannot see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.mann_whitney import mann_whitney
from multimodal.objectives.views import Extra, Pairs
from tests.multimodal.objectives.differences import by_differences
from tests.multimodal.objectives.oracles import leaf, numpy_unit

IDS = np.array([0, 1, 0, 2, 1])
KEEP = np.array([1, 1, 0, 1, 1], dtype=bool)
ALLOWED = np.array([[1, 1], [0, 1], [1, 1], [1, 0], [0, 0]], dtype=bool)


def pairs_of(
    a: np.ndarray, b: np.ndarray, hard: np.ndarray | None, ids: np.ndarray, allowed: np.ndarray
) -> tuple[list[float], list[float]]:
    """Positive and negative cosines, one by one."""
    u, v = numpy_unit(a), numpy_unit(b)
    count = len(u)
    positives = [float(u[i] @ v[i]) for i in range(count)]
    negatives = []
    for i in range(count):
        negatives += [float(u[i] @ v[j]) for j in range(count) if i != j and ids[i] != ids[j]]
        if hard is not None:
            for j in range(count):
                w = numpy_unit(hard[j])
                negatives += [float(u[i] @ w[k]) for k in range(len(w)) if allowed[j, k]]
    return positives, negatives


def mean_softplus(positives: list[float], negatives: list[float], s: float) -> float:
    return float(np.mean([math.log1p(math.exp(s * (n - p))) for p in positives for n in negatives]))


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("spared", [False, True])
def test_value_and_gradients_are_the_oracles(spared, extra, masked, tile) -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 5, 3))
    hard = random.normal(size=(5, 2, 3))
    keep = KEEP if masked else np.ones_like(KEEP)
    ids, scale = IDS if spared else np.arange(5), np.array(4.0)

    def slow(*x: np.ndarray) -> float:
        beside = x[2][keep] if extra else None
        found = pairs_of(x[0][keep], x[1][keep], beside, ids[keep], ALLOWED[keep])
        return mean_softplus(*found, float(x[-1]))

    leaves = [leaf(x) for x in (a, b, hard, scale)]
    loss = mann_whitney(
        leaves[0],
        leaves[1],
        leaves[3],
        negatives=leaves[2] if extra else None,
        allowed=torch.from_numpy(ALLOWED) if extra else None,
        ids=torch.from_numpy(IDS) if spared else None,
        present=torch.from_numpy(KEEP) if masked else None,
        tile=tile,
    )
    assert loss.value.item() == pytest.approx(slow(a, b, hard, scale), rel=1e-10)
    positives, negatives = pairs_of(
        a[keep], b[keep], hard[keep] if extra else None, ids[keep], ALLOWED[keep]
    )
    right = np.mean([p > n for p in positives for n in negatives])
    assert loss.terms["auc"].item() == pytest.approx(right)
    assert loss.terms["positive"].item() == pytest.approx(np.mean(positives))
    assert loss.terms["negative"].item() == pytest.approx(np.mean(negatives))
    wanted = [0, 1, *([2] if extra else []), 3]
    grads = torch.autograd.grad(loss.value, [leaves[i] for i in wanted])
    expected = by_differences(slow, [a, b, hard, scale])
    for ours, place in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(ours, expected[place], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("scale", [2.0, 100.0, 1000.0])
@pytest.mark.parametrize("tile", [None, 50])
def test_many_positives_are_compared_as_few_are(monkeypatch, tile, scale) -> None:
    """The pooled sums of large batches, with all that may be left out, against pair by pair."""
    random = torch.Generator().manual_seed(8)
    a, b = torch.randn(2, 90, 5, generator=random, dtype=torch.float64)
    hard = torch.randn(90, 2, 5, generator=random, dtype=torch.float64)
    leaves = [a, b + a, hard, torch.tensor(scale, dtype=torch.float64)]
    leaves = [x.requires_grad_() for x in (x.detach() for x in leaves)]
    options: dict[str, Any] = {
        "allowed": torch.rand(90, 2, generator=random) < 0.8,
        "ids": torch.randint(0, 40, (90,), generator=random),
        "present": torch.rand(90, generator=random) < 0.9,
    }

    def found() -> list[Tensor]:
        loss = mann_whitney(
            leaves[0], leaves[1], leaves[3], negatives=leaves[2], tile=tile, **options
        )
        return [loss.value, *loss.terms.values(), *torch.autograd.grad(loss.value, leaves)]

    many = found()
    monkeypatch.setattr("multimodal.objectives.mann_whitney.FEW", 1000)
    for ours, theirs in zip(many, found(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_many_alike_have_no_negatives_either() -> None:
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    ids = torch.zeros(80, dtype=torch.int64)
    value = mann_whitney(x, x, torch.tensor(100.0), ids=ids).value
    assert value == 0
    assert not torch.autograd.grad(value, x)[0].any()


# ---- closed forms ---------------------------------------------------------------------------


def test_equal_scores_cost_log_two() -> None:
    x = torch.ones(6, 3, dtype=torch.float64)
    loss = mann_whitney(x, x, torch.tensor(100.0))
    assert loss.value.item() == pytest.approx(math.log(2))
    assert loss.terms["auc"] == 0


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), s=st.floats(0.1, 100), count=st.integers(2, 8))
def test_wrongly_ordered_pairs_are_bounded(seed: int, s: float, count: int) -> None:
    random = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, 4, generator=random, dtype=torch.float64)
    loss = mann_whitney(a, b, torch.tensor(s, dtype=torch.float64))
    assert 1 - loss.terms["auc"] <= loss.value / math.log(2) + 1e-12


def test_two_pairs_are_compared_like_four() -> None:
    """a and b exchanged: the same cosines, so the same loss."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 7, 4, generator=random, dtype=torch.float64)
    s = torch.tensor(9.0, dtype=torch.float64)
    torch.testing.assert_close(mann_whitney(a, b, s).value, mann_whitney(b, a, s).value)


def test_one_query_against_its_own_false_texts_is_the_pairwise_logistic_loss() -> None:
    random = torch.Generator().manual_seed(2)
    a, b, hard = (torch.randn(n, 4, generator=random, dtype=torch.float64) for n in (1, 1, 5))
    s = torch.tensor(3.0, dtype=torch.float64)
    found = mann_whitney(a, b, s, negatives=hard[None]).value
    margins = s * (torch.cosine_similarity(a, b) - torch.cosine_similarity(a, hard))
    torch.testing.assert_close(found, torch.nn.functional.softplus(-margins).mean())


def test_a_constant_of_each_query_moves_it_and_leaves_info_nce_where_it_was() -> None:
    """An extra coordinate in which all texts are 1 adds a constant to each query's scores."""
    random = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 6, 4, generator=random, dtype=torch.float64)
    a, b = (torch.nn.functional.normalize(x, dim=1) for x in (a, b))
    texts = torch.cat([b, torch.ones(6, 1, dtype=torch.float64)], 1) / math.sqrt(2)

    def lifted(heights: Tensor) -> tuple[Tensor, Tensor]:
        # The last coordinate fills the length up, where texts have nothing.
        rows = torch.cat([0.6 * a, heights[:, None]], 1)
        rest = (1 - (rows**2).sum(1)).sqrt()[:, None]
        return torch.cat([rows, rest], 1), torch.cat([texts, 0 * rest], 1)

    flat = lifted(torch.zeros(6, dtype=torch.float64))
    high = lifted(torch.linspace(-0.6, 0.6, 6, dtype=torch.float64))
    s = torch.tensor(10.0, dtype=torch.float64)
    forth = [info_nce(*x, s).terms["a_to_b"] for x in (flat, high)]
    torch.testing.assert_close(*forth)
    assert (mann_whitney(*high, s).value - mann_whitney(*flat, s).value).abs() > 0.1


def test_a_small_temperature_leaves_the_mean_hinge() -> None:
    random = torch.Generator().manual_seed(4)
    a, b = torch.randn(2, 6, 3, generator=random, dtype=torch.float64)
    positives, negatives = pairs_of(a.numpy(), b.numpy(), None, np.arange(6), ALLOWED)
    hinge = np.mean([max(n - p, 0) for p in positives for n in negatives])
    value = mann_whitney(a, b, torch.tensor(1e5, dtype=torch.float64)).value
    assert value.item() / 1e5 == pytest.approx(hinge, abs=1e-4)


@pytest.mark.parametrize("tile", [None, 2])
def test_without_negatives_it_is_nothing(tile) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    s = torch.tensor(100.0)
    alone = mann_whitney(x[:1], x[:1], s, tile=tile).value
    alike = mann_whitney(x, x, s, ids=torch.zeros(3, dtype=torch.int64), tile=tile).value
    absent = mann_whitney(x, x, s, present=torch.zeros(3, dtype=torch.bool), tile=tile).value
    for value in (alone, alike, absent):
        assert value == 0
        assert not torch.autograd.grad(value, x)[0].any()


# ---- settings -------------------------------------------------------------------------------


def test_its_config_takes_false_texts_where_it_is_told_to() -> None:
    random = torch.Generator().manual_seed(6)
    a, b = torch.randn(2, 5, 4, generator=random)
    hard = torch.randn(5, 2, 4, generator=random)
    s, ids, allowed = torch.tensor(100.0), torch.from_numpy(IDS), torch.from_numpy(ALLOWED)
    pairs = Pairs(a, b, b, ids, s, torch.tensor(0.0), extras={"negatives": Extra(hard, allowed)})
    config: Any = OBJECTIVES.parse({"name": "mann_whitney", "negatives": 2, "tile": 3})
    assert config.extra_texts == {"negatives": 2}
    expected = mann_whitney(a, b, s, negatives=hard, allowed=allowed)
    torch.testing.assert_close(config.loss(pairs, gather=False).value, expected.value)
    plain: Any = OBJECTIVES.parse({"name": "mann_whitney", "mask_duplicates": True})
    assert plain.extra_texts == {}
    expected = mann_whitney(a, b, s, ids=ids)
    torch.testing.assert_close(plain.loss(pairs, gather=False).value, expected.value)
    with pytest.raises(ValueError, match="negatives=2: the data gives no false texts"):
        config.loss(pairs._replace(extras={}), gather=False)
    assert plain.row_name == "mann_whitney"
    assert config.row_name == "mann_whitney, negatives=2"
    other: Any = OBJECTIVES.parse({"name": "mann_whitney", "scale": 20.0})
    assert other.row_name == "mann_whitney, scale fixed at 20"


def test_what_does_not_fit_is_named() -> None:
    x, s = torch.eye(3), torch.tensor(5.0)
    with pytest.raises(ValueError, match=r"negatives: shape \(2, 1, 3\)"):
        mann_whitney(x, x, s, negatives=torch.ones(2, 1, 3))
    with pytest.raises(ValueError, match="allowed: shape"):
        mann_whitney(x, x, s, negatives=torch.ones(3, 1, 3), allowed=torch.ones(3, 1))
    with pytest.raises(ValueError, match="give the embeddings of N pairs"):
        mann_whitney(x, x[:2], s)
