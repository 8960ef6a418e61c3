"""COCONUT's contrast: gradients, empty cases, what must not matter, the work of a batch."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from multimodal.objectives.coconut import CoconutConfig, multimodal_contrast, nspt
from tests.multimodal.objectives.coconut_oracle import MM, NSPT, VARIANTS, draw, name_of

SEVERAL = pytest.mark.parametrize("several", [False, True], ids=["classes", "several_labels"])


def values(one: Tensor, other: Tensor, labels: Tensor, rehearsal: Tensor, **more: Any) -> Tensor:
    """Of every option. Texts may differ within a class, so not those of one text a class."""
    found = [nspt(one, other, labels, rehearsal, **options, **more) for options in NSPT]
    for options in MM:
        if not options["one_text_a_class"]:
            loss = multimodal_contrast(one, other, labels, rehearsal, **options, **more)
            found.append(loss.value)
    return torch.stack(found)


# ---- gradients ------------------------------------------------------------------------------


@SEVERAL
def test_gradients_are_those_of_finite_differences(several: bool) -> None:
    one, other, labels, _ = draw(3, several=several, count=5)
    rehearsal = torch.arange(5) < 3

    def of_student(s: Tensor) -> Tensor:
        return torch.stack([nspt(s, other, labels, rehearsal, **o) for o in NSPT])

    def of_both(a: Tensor, x: Tensor) -> Tensor:
        found = [multimodal_contrast(a, x, labels, rehearsal, **o) for o in MM]
        return torch.stack([loss.value for loss in found])

    one, text = one.requires_grad_(), other.clone().requires_grad_()
    assert torch.autograd.gradcheck(of_student, one)
    assert torch.autograd.gradcheck(of_both, (one, text))


@pytest.mark.parametrize("options", NSPT, ids=name_of)
def test_the_teacher_has_no_gradient_and_new_samples_have_one(options: Any) -> None:
    one, other, labels, rehearsal = draw(1, several=False)
    one.requires_grad_()
    other.requires_grad_()
    nspt(one, other, labels, rehearsal, **options).backward()
    assert other.grad is None
    assert one.grad is not None
    moved = one.grad[~rehearsal].any()
    assert moved == (options["variant"] != "ntpt" or options["anchors"] == "all")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@SEVERAL
def test_nothing_is_nan_where_the_temperature_is_tiny(several: bool, dtype) -> None:
    for seed in (0, 1):
        one, other, labels, rehearsal = draw(seed, several=several)
        one, other = one.to(dtype).requires_grad_(), other.to(dtype).requires_grad_()
        found = values(one, other, labels, rehearsal, temperature=0.001)
        assert found.isfinite().all()
        for value in found:
            grads = torch.autograd.grad(value, (one, other), retain_graph=True, allow_unused=True)
            assert all(g is None or g.isfinite().all() for g in grads)


def test_a_row_of_zeros_has_a_gradient_of_a_usual_size() -> None:
    one, other, labels, rehearsal = draw(2, several=False)
    one[0], other[1], one[2], other[2] = 0, 0, 0, 0
    one.requires_grad_()
    value = values(one, other, labels, rehearsal).sum()
    (grad,) = torch.autograd.grad(value, one)
    assert value.isfinite()
    assert grad.abs().max() < 1e4


# ---- nothing to learn from ------------------------------------------------------------------


@SEVERAL
@pytest.mark.parametrize("count", [7, 0])
def test_without_anchors_it_is_0_with_a_graph(several: bool, count: int) -> None:
    one, other, labels, _ = (x[:count] for x in draw(0, several=several))
    one.requires_grad_()
    nothing = torch.zeros(count, dtype=torch.bool)
    options: list[Any] = [{"variant": v} for v in VARIANTS]
    losses = [nspt(one, other, labels, nothing, **o) for o in options]
    everything = ~nothing
    options = [{"positives": p} for p in ("same_class", "paired")]
    losses += [multimodal_contrast(one, other, labels, everything, **o).value for o in options]
    if several:  # nor do samples without labels make anchors
        unknown = torch.full_like(labels, math.nan)
        losses += [
            nspt(one, other, unknown, everything, anchors="all"),
            multimodal_contrast(one, other, unknown, nothing, scope="all").value,
        ]
    for value in losses:
        assert value == 0
        (grad,) = torch.autograd.grad(value, one)
        assert not grad.any()


def test_what_the_teacher_says_of_new_samples_is_read_only_where_it_is_said() -> None:
    one, other, labels, rehearsal = draw(1, several=False)
    blank = other.masked_fill(~rehearsal[:, None], math.nan)
    for options in NSPT:
        config = CoconutConfig(nspt_variant=options["variant"], anchor_scope=options["anchors"])
        seen, unseen = (nspt(one, t, labels, rehearsal, **options) for t in (other, blank))
        assert unseen.isnan() == config.teacher_reads_all
        assert config.teacher_reads_all or seen == unseen


# ---- what must not matter -------------------------------------------------------------------


@SEVERAL
def test_neither_order_nor_lengths_matter(several: bool) -> None:
    for seed in range(4):
        one, other, labels, rehearsal = given = draw(seed, several=several)
        expected = values(*given)
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(values(*(x[order] for x in given)), expected)
        scale = torch.logspace(-3, 3, 7, dtype=torch.float64)[:, None]
        longer = values(one * scale, other / scale, labels, rehearsal)
        torch.testing.assert_close(longer, expected)


@SEVERAL
def test_half_precision_is_reduced_in_float32(several: bool) -> None:
    one, other, labels, rehearsal = draw(5, several=several)
    a, b = one.bfloat16(), other.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = values(a, b, labels, rehearsal)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, values(a.float(), b.float(), labels, rehearsal))
    torch.testing.assert_close(
        values(one.float(), other.float(), labels, rehearsal).double(),
        values(one, other, labels, rehearsal),
        rtol=0,
        atol=2e-4,
    )


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [*NSPT, *MM], ids=name_of)
def test_the_work_is_the_same_calls_for_any_number_of_samples(options: Any) -> None:
    """No loop over samples, one product of embeddings."""
    compute: Any = nspt if "variant" in options else multimodal_contrast
    calls = []
    for count in (5, 64):
        given = draw(0, several=False, count=count)
        with Counted() as counted:
            compute(*given, **options)
        calls.append(counted.calls)
    assert calls[0] == calls[1]
    assert calls[0]["mm"] == 1
    assert not {"item", "_local_scalar_dense", "nonzero"} & set(calls[0])  # waits of a GPU
