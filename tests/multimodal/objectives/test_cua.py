"""CUA and CUAXU against sums over pairs, closed forms, and what they are to do to a gap."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from multimodal.evaluation.diagnostics import (
    alignment,
    centroid_distance,
    cross_uniformity,
    uniformity,
)
from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.cua import cua
from multimodal.objectives.tools.gather import Rows
from multimodal.objectives.tools.kernels import log_mean_kernel
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
from tests.multimodal.objectives.oracles import numpy_unit, softmax_oracle

WEIGHTS: dict[str, Any] = {"alignment": 0.7, "uniformity": 0.4, "cross_uniformity": 0.9}


def oracle(a, b, scale, same: np.ndarray | None = None) -> float:
    """Every sum written out. same: (N, N), pairs of equal id."""
    x, y, n = numpy_unit(a), numpy_unit(b), len(a)
    other = ~np.eye(n, dtype=bool) if same is None else ~same
    logits, allowed = scale * x @ y.T, other | np.eye(n, dtype=bool)
    clip = [softmax_oracle(m, np.eye(n), allowed)[0] for m in (logits, logits.T)]

    def spread(one, two) -> float:
        kernel = [
            math.exp(-2 * np.sum((one[i] - two[j]) ** 2))
            for i in range(n)
            for j in range(n)
            if other[i, j]
        ]
        return math.log(np.mean(kernel))

    value = sum(clip) / 2 + WEIGHTS["alignment"] * np.mean(np.sum((x - y) ** 2, axis=1))
    value += WEIGHTS["uniformity"] * (spread(x, x) + spread(y, y)) / 2
    return value + WEIGHTS["cross_uniformity"] * spread(x, y)


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("ids", [None, IDS])
def test_value_and_gradients_are_the_oracles(ids: np.ndarray | None, tile: int | None) -> None:
    same = None if ids is None else ids[:, None] == ids
    numbers = None if ids is None else torch.tensor(ids)
    a, b = np.random.default_rng(0).normal(size=(2, 7, 4))
    assert_is_oracle(
        lambda a, b, s: cua(a, b, s, **WEIGHTS, ids=numbers, tile=tile).value,
        lambda a, b, s: oracle(a, b, s, same),
        [a, b, np.array(3.0)],
    )


def whole(a, b, **options) -> Loss:
    return cua(a, b, HUNDRED, cross_uniformity=1.0, **options)


def test_what_holds_of_every_objective() -> None:
    assert_invariant(whole)
    assert_tiles(whole)
    assert_masks(whole)
    assert_half_precision(whole)


def test_terms_are_the_diagnostics() -> None:
    a, b = pair(50)
    terms = whole(a, b).terms
    assert terms["alignment"].item() == pytest.approx(alignment(a, b))
    assert terms["uniformity_a"].item() == pytest.approx(uniformity(a))
    assert terms["uniformity_b"].item() == pytest.approx(uniformity(b))
    assert terms["cross_uniformity"].item() == pytest.approx(cross_uniformity(a, b))
    value = terms["contrastive"] + terms["alignment"] + terms["cross_uniformity"]
    value = value + (terms["uniformity_a"] + terms["uniformity_b"]) / 2
    torch.testing.assert_close(whole(a, b).value, value)


def test_identical_modalities() -> None:
    a, _ = pair()
    terms = whole(a, 3 * a).terms
    assert terms["alignment"].item() == pytest.approx(0, abs=1e-15)
    # The printed sum over N would add log(N - 1).
    torch.testing.assert_close(terms["cross_uniformity"], terms["uniformity_a"])


def test_without_weights_it_is_clip_and_one_pair_is_worth_nothing() -> None:
    a, b = pair()
    plain = cua(a, b, HUNDRED, alignment=0.0, uniformity=0.0)
    assert torch.equal(plain.value, info_nce(a, b, HUNDRED).value)
    one = whole(a[:1].requires_grad_(), a[:1])
    assert one.value.item() == pytest.approx(0, abs=1e-15)
    assert one.terms["uniformity_a"] == 0
    alike = whole(a, b, ids=torch.zeros(7, dtype=torch.int64))  # no pair is left
    torch.testing.assert_close(alike.value, alike.terms["alignment"])


def test_collapsed_and_farthest_points() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    rows = Rows(x, None, gather=False)
    assert log_mean_kernel(x, x, rows).item() == pytest.approx(0, abs=1e-6)
    assert log_mean_kernel(x, -x, rows).item() == pytest.approx(-8, abs=1e-5)


def test_an_offset_raises_alignment_and_gradient_steps_take_it_away() -> None:
    x, y = pair(32, 8, dtype=torch.float32)
    y = normalize(x + 0.1 * y + 3 * torch.eye(8)[0]).requires_grad_()
    x = normalize(x).requires_grad_()
    gap = centroid_distance(x, y)
    assert whole(x, y).terms["alignment"] > whole(x, x + 0.1 * pair(32, 8)[1]).terms["alignment"]
    optimiser = torch.optim.SGD([x, y], lr=0.5)
    for _ in range(50):
        optimiser.zero_grad()
        cua(x, y, torch.tensor(10.0)).value.backward()
        optimiser.step()
    assert centroid_distance(x, y) < gap / 5


def test_memory_of_tiles_is_linear() -> None:
    assert_linear_memory(whole, tile=8)


def test_settings() -> None:
    config: Any = OBJECTIVES.parse("cuaxu")
    assert config.row_name == "cuaxu (reconstruction)"
    assert config.start == {"scale": 100.0, "bias": 0.0, "learn_scale": False, "max_scale": 100.0}
    config = OBJECTIVES.parse({"name": "cua", "alignment": 0.5, "learn_scale": True})
    assert config.row_name == "cua (reconstruction), alignment=0.5, learned scale"
    assert OBJECTIVES.parse(config.dump()) == config


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: cua(a, b[:3], HUNDRED), ROWS_DIFFER),
        (lambda a, b: cua(a, b, HUNDRED, tile=0), "tile: 0 rows a tile"),
        (lambda a, b: cua(a, b, HUNDRED, ids=torch.arange(3)), r"ids: shape \(3,\)"),
    ],
)
def test_bad_input_is_named(call: Callable[..., Loss], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*pair())
