"""DropKey: its schedule, its rate, its guard, and the attention against a masked softmax."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from multimodal.encoders import dropkey
from multimodal.encoders.dropkey import additive, draw_keys, dropped_attention, ratios

# The schedule of twelve layers from 0.2, to six digits.
GOLDEN = [0.2, 0.181818, 0.163636, 0.145455, 0.127273, 0.109091]
GOLDEN += [0.090909, 0.072727, 0.054545, 0.036364, 0.018182, 0.0]


def qkv(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, *shape, generator=made, dtype=dtype)
    return query, key, value


def masked_softmax(query: Tensor, key: Tensor, value: Tensor, keep: Tensor) -> Tensor:
    """In float32, as the paper has it."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    weights = scores.float().masked_fill(~keep, -torch.inf).softmax(-1)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    return weights @ value


def test_the_schedule_falls_to_exactly_nothing() -> None:
    assert ratios(0.2, 12) == pytest.approx(GOLDEN, abs=5e-7)
    assert ratios(0.2, 12)[-1] == 0.0
    assert ratios(0.2, 12)[0] == 0.2
    assert ratios(0.3, 3, "constant") == [0.3, 0.3, 0.3]
    assert ratios(0.2, 1) == [0.2]


@pytest.mark.parametrize("ratio", [0.2, 0.181818, 0.3, 0.5, 0.0039, 0.9])
def test_the_rate_is_the_ratio(ratio: float) -> None:
    """Within three deviations of a binomial, for whole and for broken parts of 1/256."""
    shape = (4, 4, 250, 250)
    count = math.prod(shape)
    keep = draw_keys(shape, ratio, generator=torch.Generator().manual_seed(1))
    dropped = int((~keep).sum())
    assert abs(dropped - ratio * count) < 3 * math.sqrt(count * ratio * (1 - ratio))


def test_bytes_that_do_not_decide_are_decided_as_often_as_they_should(monkeypatch) -> None:
    """At ratio 51.5 / 256, half of the entries whose byte is 51 are kept."""
    seen: list[Tensor] = []
    real = torch.rand

    def rand(*args, **fields):
        seen.append(real(*args, **fields))
        return seen[-1]

    monkeypatch.setattr(dropkey.torch, "rand", rand)
    keep = draw_keys((1, 1, 1000, 1000), 51.5 / 256, generator=torch.Generator().manual_seed(2))
    (drawn,) = seen
    assert abs(len(drawn) - 1e6 / 256) < 4 * math.sqrt(1e6 / 256)
    assert abs(float((drawn >= 0.5).double().mean()) - 0.5) < 0.04
    assert keep.dtype == torch.bool


def test_entries_are_independent() -> None:
    """Pairs of neighbours along every axis drop together as often as chance has it."""
    keep = draw_keys((8, 8, 96, 96), 0.3, generator=torch.Generator().manual_seed(3)).double()
    drop = 1 - keep
    for axis in range(4):
        both = drop.narrow(axis, 1, drop.shape[axis] - 1) * drop.narrow(
            axis, 0, drop.shape[axis] - 1
        )
        assert float(both.mean()) == pytest.approx(0.09, abs=0.002)


@settings(max_examples=60, deadline=None)
@given(
    keys=st.integers(1, 6),
    ratio=st.floats(0.0, 0.999),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_no_row_loses_all_its_keys_and_padding_is_never_kept(keys, ratio, seed, data) -> None:
    rows = st.lists(st.booleans(), min_size=keys, max_size=keys).filter(any)
    valid = torch.tensor(data.draw(st.lists(rows, min_size=3, max_size=3)))
    made = torch.Generator().manual_seed(seed)
    keep = draw_keys((3, 2, keys, keys), ratio, valid=valid, generator=made)
    assert keep.any(-1).all()
    assert not (keep & ~valid[:, None, None]).any()
    assert draw_keys((3, 2, keys, keys), ratio, generator=made).any(-1).all()


def test_the_key_that_stays_is_drawn_evenly() -> None:
    valid = torch.tensor([[True, False, True, True]]).expand(6000, 4)
    made = torch.Generator().manual_seed(4)
    keep = draw_keys((6000, 1, 1, 4), 0.999, valid=valid, generator=made)
    alone = keep[keep.sum(-1) == 1]
    shares = alone.double().mean(0)
    assert shares.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.03)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [4, 37])
def test_attention_equals_the_masked_softmax(length: int, padded: bool) -> None:
    query, key, value = qkv(3, 2, length, 8)
    inputs = tuple(t.clone().requires_grad_() for t in (query, key, value))
    valid = None
    if padded:
        valid = torch.arange(length) < torch.tensor([length, 2, 1])[:, None]
    keep = draw_keys(
        (3, 2, length, length), 0.4, valid=valid, generator=torch.Generator().manual_seed(5)
    )
    made = torch.Generator().manual_seed(5)
    ours = dropped_attention(*inputs, ratio=0.4, valid=valid, generator=made)
    boolean = scaled_dot_product_attention(query, key, value, attn_mask=keep)
    slow = tuple(t.clone().requires_grad_() for t in (query, key, value))
    expected = masked_softmax(*slow, keep=keep)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(boolean, expected, rtol=0, atol=1e-5)
    weights = torch.randn(ours.shape, generator=made)
    (ours * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b in zip(inputs, slow, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_no_nan(dtype: torch.dtype) -> None:
    """Scores beyond half precision's largest number too; a row may be left with one key."""
    query, key, value = (30 * t for t in qkv(2, 2, 5, 8, dtype=dtype))
    valid = torch.tensor([[True, True, False, False, False], [True] * 5])
    for ratio in (0.0, 0.3, 0.95):
        out = dropped_attention(query, key, value, ratio, valid=valid)
        assert out.dtype == dtype
        assert out.isfinite().all()


def test_without_a_ratio_it_is_plain_attention_and_draws_nothing() -> None:
    query, key, value = qkv(2, 2, 5, 8)
    state = torch.get_rng_state()
    out = dropped_attention(query, key, value, 0.0)
    assert torch.equal(out, scaled_dot_product_attention(query, key, value))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_global_seed_decides_as_for_dropout() -> None:
    torch.manual_seed(7)
    first = draw_keys((2, 2, 9, 9), 0.3)
    torch.manual_seed(7)
    assert torch.equal(draw_keys((2, 2, 9, 9), 0.3), first)
    assert not torch.equal(draw_keys((2, 2, 9, 9), 0.3), first)


def test_additive_masks() -> None:
    keep = torch.tensor([True, False, True])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        added = additive(keep, dtype) + torch.tensor([-7.0, 90.0, 4.0], dtype=dtype)
        assert added.softmax(0)[1] == 0
        assert added.softmax(0).isfinite().all()
    assert additive(keep, torch.float32)[::2].tolist() == [0.0, 0.0]
    assert keep.tolist() == [True, False, True]
