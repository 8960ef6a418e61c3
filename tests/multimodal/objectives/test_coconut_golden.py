"""COCONUT's reconstruction against its golden values, in both precisions."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.objectives.coconut import multimodal_contrast, nspt

GOLDEN = Path(__file__).parents[4] / "shared/golden/coconut_losses.json"
NAMES: dict[str, Any] = {
    "ntpt": "ntpt",
    "nspt_literal": "literal",
    "nspt_exclude_self": "exclude_self",
    "nspt_bounded": "bounded",
    "nspt_new_only": "new_only",
}
ALIGNED = {
    "mm_new_same_class": ("new", "same_class"),
    "mm_new_paired": ("new", "paired"),
    "mm_all_same_class": ("all", "same_class"),
    "mm_all_paired": ("all", "paired"),
}
DIRECTIONS = {"signal_to_text": "audio_to_text", "text_to_signal": "text_to_audio"}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}
BOTH = pytest.mark.parametrize("dtype", list(TOLERANCE))
TEMPERATURES = pytest.mark.parametrize("tau", ["0.1", "1.0"])


@cache
def golden() -> dict[str, Any]:
    if not GOLDEN.is_file():
        pytest.skip(f"no golden values in {GOLDEN}")
    return json.loads(GOLDEN.read_text("utf-8"))


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = golden()["inputs"]
    s, t = (torch.tensor(given[name], dtype=dtype) for name in "ST")
    return s, t, torch.tensor(given["y"]), torch.tensor(given["rehearsal"]).bool()


@TEMPERATURES
@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_nspt(name: str, dtype: torch.dtype, tau: str) -> None:
    expected, near = golden()["expected"][tau][name], TOLERANCE[dtype]
    options: Any = {"temperature": float(tau), "variant": NAMES[name]}
    assert nspt(*inputs(dtype), **options).item() == pytest.approx(expected["mean"], abs=near)
    total = nspt(*inputs(dtype), reduction="sum", **options)
    assert total.item() == pytest.approx(expected["sum"], abs=3 * near)
    each = nspt(*inputs(dtype), reduction="none", **options)
    wanted = [expected["per_anchor"].get(str(k), 0.0) for k in range(6)]
    assert each.tolist() == pytest.approx(wanted, abs=near)


@TEMPERATURES
@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_tangent_gradients_of_the_student(name: str, dtype: torch.dtype, tau: str) -> None:
    s, t, y, rehearsal = inputs(dtype)
    s.requires_grad_()
    variant: Any = NAMES[name]
    nspt(s, t, y, rehearsal, temperature=float(tau), variant=variant).backward()
    wanted = torch.tensor(golden()["expected"][tau][name]["grad_student_tangent"], dtype=dtype)
    near = 1e-9 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(s.grad, wanted, rtol=0, atol=near)


@TEMPERATURES
@BOTH
@pytest.mark.parametrize("name", ALIGNED)
def test_multimodal(name: str, dtype: torch.dtype, tau: str) -> None:
    expected, near = golden()["expected"][tau][name], TOLERANCE[dtype]
    scope, positives = ALIGNED[name]
    options: Any = {"temperature": float(tau), "scope": scope, "positives": positives}
    loss = multimodal_contrast(*inputs(dtype), **options)
    assert loss.value.item() == pytest.approx(expected["total"], abs=near)
    for term, direction in DIRECTIONS.items():
        found, wanted = loss.terms[term].item(), expected[direction]
        assert found == pytest.approx(wanted["mean"], abs=near)
        anchors = len(wanted["per_anchor"])
        assert found * anchors == pytest.approx(wanted["sum"], abs=anchors * near)
    assert loss.terms["classes"] == (2 if scope == "new" else 4)


@TEMPERATURES
@pytest.mark.parametrize("name", ALIGNED)
def test_multimodal_of_each_anchor(name: str, tau: str) -> None:
    """A sample alone is an anchor where it alone has a label; of classes, the mean of theirs."""
    s, t, y, rehearsal = inputs(torch.float64)
    scope, positives = ALIGNED[name]
    expected = golden()["expected"][tau][name]
    anchors = [int(k) for k in expected["audio_to_text"]["per_anchor"]]
    for k in anchors:
        alone = torch.arange(6) == k if positives == "paired" else y == y[k]
        targets = alone[:, None].double()
        options: Any = {"temperature": float(tau), "scope": scope, "positives": positives}
        loss = multimodal_contrast(s, t, targets, rehearsal, **options)
        for term, direction in DIRECTIONS.items():
            each = expected[direction]["per_anchor"]
            wanted = [each[str(i)] for i in anchors if alone[i]]
            assert loss.terms[term].item() == pytest.approx(sum(wanted) / len(wanted), abs=1e-9)


@TEMPERATURES
@pytest.mark.parametrize("scope", ["new", "all"])
def test_within_one_batch_ntpt_and_multimodal_are_the_same_anchors(scope: str, tau: str) -> None:
    s, t, y, rehearsal = inputs(torch.float64)
    rows = torch.arange(6)[~rehearsal if scope == "new" else slice(None)]
    every = torch.ones(len(rows), dtype=torch.bool)
    expected = golden()["expected"][tau][f"mm_{scope}_same_class"]
    for a, b, direction in ((s, t, "audio_to_text"), (t, s, "text_to_audio")):
        found = nspt(
            a[rows],
            b[rows],
            y[rows],
            every,
            temperature=float(tau),
            variant="ntpt",
            reduction="none",
        )
        each = {str(k): v for k, v in zip(rows.tolist(), found.tolist(), strict=True)}
        assert each == pytest.approx(expected[direction]["per_anchor"])


@BOTH
@pytest.mark.parametrize("place", range(4))
def test_edge_cases(place: int, dtype: torch.dtype) -> None:
    case = golden()["edge_cases"][place]
    s, t, y, _ = inputs(dtype)
    rows, rehearsal = case.get("rows", list(range(6))), torch.tensor(case["rehearsal"]).bool()
    s, t, y = s[rows].requires_grad_(), t[rows], y[rows]
    near = TOLERANCE[dtype]
    checked = 0
    for name, wanted in case["expected"].items():
        options: Any = {"temperature": case["tau"]}
        if name in NAMES:
            value = nspt(s, t, y, rehearsal, variant=NAMES[name], **options)
        elif name in ALIGNED:
            scope, positives = ALIGNED[name]
            options |= {"scope": scope, "positives": positives}
            value = multimodal_contrast(s, t, y, rehearsal, **options).value
        else:
            continue  # scl_student: supervised_contrastive
        assert value.item() == pytest.approx(wanted, rel=near, abs=near if wanted else 0)
        (grad,) = torch.autograd.grad(value, s)
        assert grad.isfinite().all()
        if wanted == 0:
            assert not grad.any()
        checked += 1
    assert checked >= 5


def test_the_inputs_are_what_their_generator_says() -> None:
    s, t, _, _ = inputs(torch.float64)
    grid = 4 * torch.arange(6, dtype=torch.float64)[:, None] + torch.arange(4)
    torch.testing.assert_close(s, normalize(torch.sin(1 + grid)), rtol=0, atol=1e-12)
    torch.testing.assert_close(t, normalize(torch.cos(0.5 + grid) + 0.3), rtol=0, atol=1e-12)
