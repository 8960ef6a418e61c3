"""Hard and simple contrastive losses against plain Python, InfoNCE and its limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.behaviour import hard_contrastive, simple_contrastive
from multimodal.objectives.contrastive import info_nce
from tests.multimodal.objectives.checks import (
    HUNDRED,
    IDS,
    ROWS_DIFFER,
    assert_half_precision,
    assert_invariant,
    assert_is_oracle,
    assert_linear_memory,
    assert_masks,
    assert_tiles,
    pair,
)
from tests.multimodal.objectives.oracles import numpy_unit


def negatives(i: int, ids: np.ndarray) -> list[int]:
    return [k for k in range(len(ids)) if k != i and ids[k] != ids[i]]


def hard_oracle(a, b, scale, alpha: float, ids: np.ndarray) -> float:
    total = 0.0
    for x, y in ((numpy_unit(a), numpy_unit(b)), (numpy_unit(b), numpy_unit(a))):
        for i in range(len(x)):
            others = sorted((float(x[i] @ y[k]) for k in negatives(i, ids)), reverse=True)
            kept = others[: math.ceil(alpha * len(others))]
            own = float(x[i] @ y[i])
            total += math.log(1 + sum(math.exp(scale * (s - own)) for s in kept))
    return total / 2 / len(a)


def simple_oracle(a, b, repulsion: float, ids: np.ndarray) -> float:
    total = 0.0
    for x, y in ((numpy_unit(a), numpy_unit(b)), (numpy_unit(b), numpy_unit(a))):
        for i in range(len(x)):
            others = [float(x[i] @ y[k]) for k in negatives(i, ids)]
            total += repulsion * sum(others) / len(others) - float(x[i] @ y[i])
    return total / 2 / len(a)


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("alpha", [0.01, 0.34, 0.5, 1.0])
@pytest.mark.parametrize("some_ids", [False, True])
def test_hard_is_the_oracle(some_ids: bool, alpha: float, tile: int | None) -> None:
    ids = IDS if some_ids else np.arange(7)
    numbers = torch.tensor(IDS) if some_ids else None
    a, b = np.random.default_rng(0).normal(size=(2, 7, 4))
    assert_is_oracle(
        lambda a, b, s: hard_contrastive(a, b, s, alpha=alpha, ids=numbers, tile=tile).value,
        lambda a, b, s: hard_oracle(a, b, s, alpha, ids),
        [a, b, np.array(3.0)],
    )


@pytest.mark.parametrize("some_ids", [False, True])
def test_simple_is_the_oracle(some_ids: bool) -> None:
    ids = IDS if some_ids else np.arange(7)
    numbers = torch.tensor(IDS) if some_ids else None
    assert_is_oracle(
        lambda a, b: simple_contrastive(a, b, repulsion=0.7, ids=numbers).value,
        lambda a, b: simple_oracle(a, b, 0.7, ids),
        list(np.random.default_rng(0).normal(size=(2, 7, 4))),
    )


def hard(a: Tensor, b: Tensor, **options: Any) -> Loss:
    return hard_contrastive(a, b, HUNDRED, alpha=0.4, **options)


def test_what_holds_of_every_objective() -> None:
    for function in (hard, simple_contrastive):
        assert_invariant(function)
        assert_masks(function)
        assert_half_precision(function)
    assert_tiles(hard)


@pytest.mark.parametrize("tile", [None, 2])
def test_all_negatives_are_those_of_info_nce(tile: int | None) -> None:
    a, b = pair()
    loss, plain = hard_contrastive(a, b, HUNDRED, alpha=1.0, tile=tile), info_nce(a, b, HUNDRED)
    torch.testing.assert_close(loss.value, plain.value)
    assert loss.terms["negatives"] == 6
    for key, term in plain.terms.items():
        torch.testing.assert_close(loss.terms[key], term)


@pytest.mark.parametrize("tile", [None, 1, 2, 3])
def test_ties_stay_together_whatever_the_tiles(tile: int | None) -> None:
    a, b = pair(8, 16, dtype=torch.float32)
    b[4:] = b[4]  # four texts that are one, as prompts of a class are
    loss = hard_contrastive(a, b, HUNDRED, alpha=0.01, tile=tile)
    whole = hard_contrastive(a, b, HUNDRED, alpha=0.01)
    torch.testing.assert_close(loss.value, whole.value)
    assert loss.terms["negatives"] == whole.terms["negatives"] > 1
    silent = torch.zeros(5, 3)
    assert hard_contrastive(silent, silent, HUNDRED, tile=tile).terms["negatives"] == 4


def test_a_low_temperature_leaves_the_nearest_negative() -> None:
    a, b = pair()
    cosines = normalize(a) @ normalize(b).T
    own, others = cosines.diagonal(), cosines.clone().fill_diagonal_(-2)
    expected = ((others.amax(1) - own).relu().mean() + (others.amax(0) - own).relu().mean()) / 2
    for alpha in (0.01, 1.0):
        loss = hard_contrastive(a, b, torch.tensor(1e5), alpha=alpha)
        assert loss.value.item() / 1e5 == pytest.approx(expected.item(), abs=1e-4)


def test_simple_is_the_limit_of_a_high_temperature() -> None:
    a, b = pair()
    scale = torch.tensor(1e-5, dtype=torch.float64)
    limit = (info_nce(a, b, scale).value - math.log(7)) / scale * 7 / 6
    assert simple_contrastive(a, b).value.item() == pytest.approx(limit.item(), abs=1e-4)


def test_one_pair_and_one_text_for_all() -> None:
    a, b = (x[:1].requires_grad_() for x in pair())
    assert hard(a, b).value == 0
    loss = simple_contrastive(a, b)
    assert loss.terms["negative"] == 0
    torch.testing.assert_close(loss.value, -loss.terms["positive"])
    a, b = pair()
    alike = torch.zeros(7, dtype=torch.int64)
    assert hard(a, b, ids=alike).value.item() == pytest.approx(0)
    assert hard(a, b, ids=alike).terms["negatives"] == 0
    assert simple_contrastive(a, b, ids=alike).terms["negative"] == 0


def test_memory_of_tiles_is_linear() -> None:
    assert_linear_memory(hard, tile=8)
    assert_linear_memory(simple_contrastive)


def test_settings() -> None:
    config: Any = OBJECTIVES.parse({"name": "hard_contrastive", "alpha": 0.5, "scale": 20.0})
    assert config.row_name == ("hard_contrastive (reconstruction), alpha=0.5, scale fixed at 20")
    assert OBJECTIVES.parse(config.dump()) == config
    assert OBJECTIVES.parse("simple_contrastive").row_name == "simple_contrastive (reconstruction)"
    for setting, words in (({"tile": 8}, "no similarity"), ({"learn_scale": True}, "no temper")):
        with pytest.raises(ValidationError, match=words):
            OBJECTIVES.parse({"name": "simple_contrastive", **setting})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: hard_contrastive(a, b, HUNDRED, alpha=0.0), "alpha: 0.0; give the share"),
        (lambda a, b: hard_contrastive(a, b, HUNDRED, alpha=1.1), "alpha: 1.1"),
        (lambda a, b: hard(a, b, tile=0), "tile: 0 rows a tile"),
        (lambda a, b: hard(a, b[:3]), ROWS_DIFFER),
        (lambda a, b: simple_contrastive(a, b[:3]), ROWS_DIFFER),
        (lambda a, b: simple_contrastive(a, b, ids=torch.arange(3)), r"ids: shape \(3,\)"),
    ],
)
def test_bad_input_is_named(call: Callable[..., Loss], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*pair())
