"""MoRE's anchor contrast: closed forms, a NumPy oracle, absent cases, several processes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.contrastive import info_nce, multi_positive
from multimodal.objectives.more import MoreConfig, anchor_contrastive
from multimodal.objectives.views import TEXT, Views
from tests.multimodal.objectives.oracles import gradients, leaf, numpy_unit, softmax_oracle
from tests.multimodal.objectives.tools.gloo import in_processes

PAIRS = [("text", "xray", 1.0), ("text", "ecg", 1.0)]
OPTIONS = ("keep", "mask_group", "mask_text", "multi_positive")
GROUPS = np.array([0, 1, 1, 2, 0, 3, 1, 4])
TEXTS = np.array([5, 5, 0, 1, 1, 2, 0, 3])
XRAY = np.array([1, 1, 0, 1, 1, 1, 0, 1], dtype=bool)
ECG = np.array([1, 0, 1, 1, 1, 0, 1, 1], dtype=bool)


def of(x: Tensor, tau: float, **options: Any) -> Loss:
    views = {"text": x, "xray": x, "ecg": x}
    scale = torch.tensor(1 / tau, dtype=torch.float64)
    return anchor_contrastive(views, scale, pairs=PAIRS, **options)


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("count", "value"), [(4, 2.772589), (100, 9.210340)])
def test_equal_embeddings_cost_twice_the_logarithm(count, value, symmetric, tile) -> None:
    loss = of(torch.ones(count, 3, dtype=torch.float64), 0.02, symmetric=symmetric, tile=tile)
    assert loss.value.item() == pytest.approx(value, abs=1e-6)
    assert loss.terms["text-xray/a_to_b"].item() == pytest.approx(math.log(count), abs=1e-12)


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize(
    ("count", "tau", "value"), [(4, 0.1, 1.36190515e-4), (8, 0.07, 4.374115e-6)]
)
def test_matched_and_orthogonal_ones_cost_next_to_nothing(count, tau, value, tile) -> None:
    loss = of(torch.eye(count, dtype=torch.float64), tau, tile=tile)
    for key in ("text-xray/a_to_b", "text-ecg/b_to_a"):
        assert loss.terms[key].item() == pytest.approx(value, rel=1e-6)
    assert loss.value.item() == pytest.approx(2 * math.log1p((count - 1) * math.exp(-1 / tau)))


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("what", ["mask_group", "mask_text"])
def test_a_case_with_its_positive_alone_costs_nothing_and_moves_nothing(what, tile) -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    same = torch.zeros(6, dtype=torch.int64)
    loss = of(x, 0.02, false_negatives=what, groups=same, texts=same, tile=tile)
    assert loss.value == 0
    assert loss.terms["text-xray/live_negatives"] == 0
    loss.value.backward()
    assert x.grad is not None
    assert not x.grad.any()


# ---- the oracle -----------------------------------------------------------------------------


def oracle(
    views: dict[str, np.ndarray], s: float, what: str, symmetric: bool, masks: dict[str, np.ndarray]
) -> tuple[float, dict[str, np.ndarray], float, list[float]]:
    """Value, gradients by view, gradient of the scale, mean live negatives of each pair."""
    value, of_scale, live = 0.0, 0.0, []
    of_views = {name: np.zeros_like(x) for name, x in views.items()}
    for anchor, other, weight in PAIRS:
        keep = np.flatnonzero(masks.get(anchor, ECG | True) & masks.get(other, ECG | True))
        ids = (GROUPS if what == "mask_group" else TEXTS)[keep]
        same, own = ids[:, None] == ids[None], np.eye(len(keep), dtype=bool)
        positive = same if what == "multi_positive" else own
        allowed = ~same | own if what in ("mask_group", "mask_text") else own | True
        a, b = views[anchor][keep], views[other][keep]
        x = s * numpy_unit(a) @ numpy_unit(b).T
        loss, g = softmax_oracle(x, positive.astype(float), allowed)
        if symmetric:
            back, of_back = softmax_oracle(x.T, positive.astype(float), allowed)
            loss, g = (loss + back) / 2, (g + of_back.T) / 2
        of_a, of_b, of_s = gradients(a, b, s, weight * g)
        value, of_scale = value + weight * loss, of_scale + of_s
        of_views[anchor][keep] += of_a
        of_views[other][keep] += of_b
        live.append(float((allowed & ~positive).sum(1).mean()))
    return value, of_views, of_scale, live


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("masks", [{}, {"xray": XRAY, "ecg": ECG}], ids=["complete", "absent"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("what", OPTIONS)
def test_value_and_gradients_are_the_oracles(what, symmetric, masks, tile) -> None:
    random = np.random.default_rng(3)
    raw = {name: random.normal(size=(8, 4)) for name in ("text", "xray", "ecg")}
    views, scale = {name: leaf(x) for name, x in raw.items()}, leaf(7.0)
    loss = anchor_contrastive(
        views,
        scale,
        pairs=PAIRS,
        symmetric=symmetric,
        false_negatives=what,
        groups=torch.from_numpy(GROUPS),
        texts=torch.from_numpy(TEXTS),
        present={name: torch.from_numpy(mask) for name, mask in masks.items()},
        tile=tile,
    )
    value, of_views, of_scale, live = oracle(raw, 7.0, what, symmetric, masks)
    np.testing.assert_allclose(loss.value.item(), value, rtol=1e-10)
    grads = torch.autograd.grad(loss.value, [*views.values(), scale])
    for grad, expected in zip(grads, [*of_views.values(), of_scale], strict=True):
        np.testing.assert_allclose(grad, expected, rtol=1e-8, atol=1e-10)
    for (a, b, _), negatives in zip(PAIRS, live, strict=True):
        assert loss.terms[f"{a}-{b}/live_negatives"].item() == pytest.approx(negatives)


def test_any_pairs_with_weights_and_any_anchor() -> None:
    random = torch.Generator().manual_seed(2)
    x, e, t = torch.randn(3, 8, 4, generator=random)
    scale, ids = torch.tensor(5.0), torch.from_numpy(TEXTS)
    views = Views({"xray": x, "ecg": e, TEXT: t}, t, ids, scale, torch.tensor(0.0))
    weighed: Any = OBJECTIVES.parse(
        {
            "name": "more",
            "pairs": [["text", "xray", 1], ["xray", "ecg", 0.25]],
            "false_negatives": "keep",
        }
    )
    loss = weighed.of_views(views, gather=False)
    expected = info_nce(t, x, scale).value + 0.25 * info_nce(x, e, scale).value
    torch.testing.assert_close(loss.value, expected)
    anchored: Any = OBJECTIVES.parse(
        {"name": "more", "anchor": "ecg", "false_negatives": "multi_positive"}
    )
    loss = anchored.of_views(views, gather=False)
    pairs = [multi_positive(e, other, ids, scale).value for other in (x, t)]
    torch.testing.assert_close(loss.value, sum(pairs))
    assert sorted(k for k in loss.terms if k.endswith("positives")) == [
        "ecg-text/positives",
        "ecg-xray/positives",
    ]


def test_groups_are_masked_where_there_are_groups() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(4))
    groups = torch.from_numpy(GROUPS)
    masked, kept = of(x, 0.1, groups=groups), of(x, 0.1)
    torch.testing.assert_close(
        masked.value, of(x, 0.1, groups=groups, false_negatives="mask_group").value
    )
    assert masked.value < kept.value
    assert kept.terms["text-ecg/live_negatives"] == 7


def test_it_is_computed_in_float32_under_autocast() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    with torch.autocast("cpu", torch.bfloat16):
        half = of(x.bfloat16(), 0.02)
    assert half.value.dtype == torch.float32 or half.value.dtype == torch.float64
    torch.testing.assert_close(half.value, of(x.bfloat16().float(), 0.02).value)


# ---- several processes ----------------------------------------------------------------------


def shares(rank: int, world: int) -> list[dict[str, Tensor]]:
    """Of this process's cases: value and gradients of three shared towers and the scale."""
    own = slice(rank * 8 // world, (rank + 1) * 8 // world)
    random = torch.Generator().manual_seed(6)
    raw = torch.randn(3, 8, 4, generator=random, dtype=torch.float64)[:, own]
    found = []
    for what in OPTIONS:
        for tile, absent in ((None, False), (3, True), (None, True)):
            towers = [torch.eye(4, dtype=torch.float64).requires_grad_() for _ in range(3)]
            scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
            masks = {"xray": torch.from_numpy(XRAY)[own], "ecg": torch.from_numpy(ECG)[own]}
            loss = anchor_contrastive(
                {n: x @ w for n, x, w in zip(("text", "xray", "ecg"), raw, towers, strict=True)},
                scale,
                pairs=PAIRS,
                false_negatives=what,
                groups=torch.from_numpy(GROUPS)[own],
                texts=torch.from_numpy(TEXTS)[own],
                present=masks if absent else {},
                gather=world > 1,
                tile=tile,
            )
            grads = torch.autograd.grad(loss.value, [*towers, scale])
            found.append({"value": loss.value.detach(), **{str(i): g for i, g in enumerate(grads)}})
    return found


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_mean_over_processes_equals_one_process(tmp_path, world: int) -> None:
    ranks = in_processes(world, tmp_path, shares)
    for number, expected in enumerate(shares(0, 1)):
        for key, wanted in expected.items():
            mean = sum(share[number][key] for share in ranks) / world
            torch.testing.assert_close(mean, wanted, rtol=1e-10, atol=1e-12)


# ---- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": 0.001, "learn_temperature": True}, "begin in"),
        ({"anchor": "ecg", "pairs": [["text", "ecg", 1.0]]}, "either anchor or pairs"),
        ({"pairs": [["ecg", "ecg", 1.0]]}, "compared with itself"),
        ({"pairs": []}, "pairs"),
        ({"pairs": [["text", "ecg", -1.0]]}, "greater than or equal to 0"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, words) -> None:
    with pytest.raises(ValidationError, match=words):
        MoreConfig.parse(fields)


def test_views_and_ids_that_are_not_there_are_named() -> None:
    x, scale = torch.eye(3), torch.tensor(5.0)
    with pytest.raises(ValueError, match="no view 'ecg'; there are text, xray"):
        anchor_contrastive({"text": x, "xray": x}, scale, pairs=PAIRS)
    with pytest.raises(ValueError, match="pairs: none among the views text"):
        anchor_contrastive({"text": x}, scale, pairs=[])
    with pytest.raises(ValueError, match="it goes by groups, and none are given"):
        of(x, 0.1, false_negatives="mask_group")
    with pytest.raises(ValueError, match="choose one of keep, mask_group"):
        of(x, 0.1, false_negatives="drop")
    with pytest.raises(ValueError, match="texts: shape"):
        of(x, 0.1, false_negatives="multi_positive", texts=torch.arange(4))


def test_its_row_says_reconstruction_and_its_temperature() -> None:
    assert MoreConfig().row_name == "more (reconstruction)"
    other = MoreConfig(temperature=0.07, learn_temperature=True)
    assert other.row_name == "more (reconstruction), learned temperature, tau 0.07"
    assert other.start["scale"] == pytest.approx(1 / 0.07)
    assert (other.start["min_scale"], other.start["max_scale"]) == (2.0, 100.0)
    assert not MoreConfig().start["learn_scale"]
