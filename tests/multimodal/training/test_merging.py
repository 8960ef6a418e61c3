"""Delta-guided merging: its weights, its invariances, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from multimodal.training.merging import delta_guided_merge

POWERS = (-2.0, -1.0, 0.0, 1.0, 2.5)


def checkpoint(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "head.weight": torch.randn(3, 4, generator=random),
        "head.bias": torch.randn(3, generator=random).half(),
        "norm.num_batches_tracked": torch.tensor(seed),
        "scale": torch.randn((), generator=random),
    }


START = checkpoint(9)


def test_deviations_of_one_and_three() -> None:
    start = {"w": torch.zeros(2)}
    models = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 3.0])}]
    for power, expected in ((1, [0.25, 2.25]), (-1, [0.75, 0.75]), (0, [0.5, 1.5])):
        for given in (start, None):
            merged = delta_guided_merge(models, given, power=float(power))["w"]
            torch.testing.assert_close(merged, torch.tensor(expected))
    each = delta_guided_merge(models, start, by="element")["w"]
    torch.testing.assert_close(each, torch.tensor([1.0, 3.0]))  # whoever moved an element has it


@pytest.mark.parametrize("by", ["norm", "mean", "element"])
@pytest.mark.parametrize("power", POWERS)
def test_it_is_the_weighted_sum(by: Any, power: float) -> None:
    models = [checkpoint(seed) for seed in range(3)]
    merged = delta_guided_merge(models, START, power=power, by=by)
    stack = np.stack([m["head.weight"].numpy() for m in models]).astype(np.float64)
    moved = np.abs(stack - START["head.weight"].numpy())
    if by == "norm":
        moved = np.sqrt((moved**2).sum((1, 2), keepdims=True))
    elif by == "mean":
        moved = moved.mean((1, 2), keepdims=True)
    shares = moved**power / (moved**power).sum(0)
    np.testing.assert_allclose(merged["head.weight"], (shares * stack).sum(0), rtol=1e-5)
    for name, tensor in merged.items():
        assert tensor.dtype == models[0][name].dtype
        assert tensor.shape == models[0][name].shape
        every = torch.stack([m[name] for m in models])
        assert (tensor >= every.amin(0)).all()
        assert (tensor <= every.amax(0)).all()
    assert merged["norm.num_batches_tracked"] == 2  # the last one's


@pytest.mark.parametrize("power", POWERS)
def test_identities(power: float) -> None:
    one, other = checkpoint(0), checkpoint(1)
    for models in ([one], [one, one, one]):
        merged = delta_guided_merge(models, START, power=power)
        assert all(torch.equal(merged[name], one[name]) for name in one)
    still = delta_guided_merge([START, START], START, power=power)  # nothing moved
    assert all(torch.equal(still[name], START[name]) for name in START)
    # Equal deviations are a plain mean, whatever the power.
    up, down = ({"w": torch.full((2, 2), s)} for s in (1.0, -1.0))
    assert not delta_guided_merge([up, down], power=power)["w"].any()
    mean = delta_guided_merge([one, other], START, power=0.0)["scale"]
    torch.testing.assert_close(mean, (one["scale"] + other["scale"]) / 2)


def test_what_did_not_move_has_nothing_or_everything() -> None:
    moved = checkpoint(0)
    for power, expected in ((1.0, moved), (-1.0, START)):
        merged = delta_guided_merge([START, moved], START, power=power)
        torch.testing.assert_close(merged["head.weight"], expected["head.weight"])


def test_new_tensors_are_made() -> None:
    one = checkpoint(0)
    merged = delta_guided_merge([one])
    for tensor in merged.values():
        tensor.add_(1)
    assert torch.equal(one["head.weight"], checkpoint(0)["head.weight"])
    assert one["norm.num_batches_tracked"] == 0


def test_bad_input_is_named() -> None:
    one, other = checkpoint(0), checkpoint(1)
    wrong: Any = "median"
    with pytest.raises(ValueError, match="models: none"):
        delta_guided_merge([])
    with pytest.raises(ValueError, match="by: 'median'; choose one of norm, mean, element"):
        delta_guided_merge([one], by=wrong)
    with pytest.raises(ValueError, match=r"state dict 2: names differ .*\(scale\)"):
        delta_guided_merge([one, {k: v for k, v in other.items() if k != "scale"}])
    with pytest.raises(ValueError, match=r"state dict 3: scale has shape \(1,\), and \(\)"):
        delta_guided_merge([one, other], START | {"scale": torch.ones(1)})
    with pytest.raises(ValueError, match="scale: NaN or infinity in a checkpoint"):
        delta_guided_merge([one, other | {"scale": torch.tensor(torch.nan)}])
