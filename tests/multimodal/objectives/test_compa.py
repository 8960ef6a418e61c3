"""CompA's objectives: the exact example, an oracle in plain Python, gradients, special cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from multimodal.objectives.compa import hard_negatives, modular
from multimodal.objectives.contrastive import info_nce
from tests.multimodal.objectives.compa_oracle import arguments, at, cases, oracle

TILES = (None, 2)
TEN = torch.tensor(10.0, dtype=torch.float64)
NAMES = ("signals", "texts", "positives", "negatives", "negative_signals")
# The exact example of the specification, by angle.
A, T = at(0, 90), at(20, 60)
FALSE = at(-30, 150)[:, None]
TRUE = at(10, 80)[:, None]  # beside the main texts


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("loss", "forth", "back", "value"),
    [
        (lambda **k: hard_negatives(A, T, TEN, **k), 0.008763, 0.013967, 0.011365),
        (lambda **k: hard_negatives(A, T, TEN, negatives=FALSE, **k), 0.215007, 0.013967, 0.114487),
        (
            lambda **k: modular(A, T, TEN, positives=TRUE, negatives=FALSE, **k),
            0.177884,
            0.007134,
            0.092509,
        ),
        (
            lambda **k: modular(A, T, TEN, positives=TRUE, negatives=FALSE, denominator="all", **k),
            0.880230,
            0.007134,
            0.443682,
        ),
    ],
    ids=["plain", "hard negatives", "own", "all"],
)
def test_exact_example(loss, forth, back, value, tile) -> None:
    found = loss(tile=tile)
    assert found.value.item() == pytest.approx(value, abs=1e-6)
    assert found.terms["a_to_b"].item() == pytest.approx(forth, abs=1e-6)
    assert found.terms["b_to_a"].item() == pytest.approx(back, abs=1e-6)


COUNTS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=5)


@pytest.mark.parametrize("tile", TILES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    counts=COUNTS,
    keys=st.sampled_from([None, 1, 2]),
    s=st.floats(0.1, 40),
    denominator=st.sampled_from(["own", "all"]),
    weights=st.sampled_from([None, [1.0, 0.5, 0.25, 0.1]]),
    data=st.data(),
)
def test_value_is_the_oracles(tile, seed, counts, keys, s, denominator, weights, data) -> None:
    found = cases(seed, counts, keys=keys)
    there = data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    taken = [case for case, here in zip(found, there, strict=True) if here]
    forth, back = oracle(taken, s, denominator, weights) if taken else (0.0, 0.0)
    options = arguments(found, spare=data.draw(st.integers(0, 1)), keys=keys is not None)
    for name in NAMES:  # what stands in an absent row is not read
        options[name][~torch.tensor(there)] = torch.nan
    slots = options["positives"].shape[1] + 1
    extended = None if weights is None else torch.tensor([*weights, 0.1])[:slots]
    loss = modular(
        scale=torch.tensor(s, dtype=torch.float64),
        denominator=denominator,
        positive_weights=extended,
        present=torch.tensor(there),
        tile=tile,
        **options,
    )
    assert loss.value.item() == pytest.approx((forth + back) / 2, rel=1e-6, abs=1e-12)
    assert loss.terms["a_to_b"].item() == pytest.approx(forth, rel=1e-6, abs=1e-12)
    assert loss.terms["b_to_a"].item() == pytest.approx(back, rel=1e-6, abs=1e-12)
    for name, texts in (("positives", "true"), ("negatives", "false")):
        if name in loss.terms and taken:
            mean = sum(len(getattr(c, texts)) for c in taken) / len(taken)
            assert loss.terms[name].item() == pytest.approx(mean)


RAGGED = [(2, 0, 1), (0, 3, 0), (1, 1, 2), (0, 0, 0)]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("denominator", ["own", "all"])
@pytest.mark.parametrize("counts", [[(2, 0, 1), (0, 1, 0), (1, 2, 1)], [(1, 2, 1)]])
def test_gradients_are_finite_differences(counts, denominator, tile) -> None:
    options = arguments(cases(1, counts, width=2, keys=2))
    leaves = [options.pop(name).nan_to_num(0.3).requires_grad_() for name in NAMES]
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def value(scale: Tensor, *leaves: Tensor) -> Tensor:
        named = dict(zip(NAMES, leaves, strict=True))
        return modular(scale=scale, denominator=denominator, tile=tile, **named, **options).value

    assert torch.autograd.gradcheck(value, (scale, *leaves))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("denominator", ["own", "all"])
def test_nothing_is_nan_and_nothing_reaches_what_is_not_there(denominator, tile) -> None:
    for counts in (RAGGED, [(0, 0, 0)], [(0, 2, 1)], [(3, 0, 0)], [(0, 0, 0)] * 3):
        options = arguments(cases(0, counts, keys=2), spare=1)
        for name in NAMES:
            options[name].requires_grad_()
        scale = torch.tensor(80.0, dtype=torch.float64, requires_grad=True)
        loss = modular(scale=scale, denominator=denominator, tile=tile, **options)
        loss.value.backward()
        assert loss.value.isfinite()
        assert all(term.isfinite() for term in loss.terms.values())
        for x in (scale, *(options[name] for name in NAMES)):
            assert x.grad is not None
            assert x.grad.isfinite().all()
        for name, allowed in (
            ("positives", "allowed_positives"),
            ("negatives", "allowed_negatives"),
            ("negative_signals", "allowed_signals"),
        ):
            assert not options[name].grad[~options[allowed]].any()


def plain(count: int = 6, width: int = 4) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(count)
    a, t = torch.randn(2, count, width, generator=random, dtype=torch.float64)
    return a.requires_grad_(), t.requires_grad_()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("extras", [None, 0, "blocked"])
def test_without_extras_it_is_the_plain_contrast(extras, tile) -> None:
    a, t = plain()
    ids = torch.tensor([0, 1, 1, 2, 3, 0])
    options: dict[str, Any] = {}
    if extras is not None:
        options["negatives"] = a.detach()[:, None].expand(-1, 2 if extras else 0, -1)
        options["allowed"] = torch.zeros(6, 2 if extras else 0, dtype=torch.bool)
    for same in (None, ids):
        expected = info_nce(a, t, TEN, ids=same, tile=tile)
        wanted = torch.autograd.grad(expected.value, (a, t))
        for name in ("ids", "keys"):
            loss = hard_negatives(a, t, TEN, tile=tile, **options, **{name: same})
            torch.testing.assert_close(loss.value, expected.value, rtol=1e-12, atol=0)
            grads = torch.autograd.grad(loss.value, (a, t))
            torch.testing.assert_close(grads, wanted, rtol=1e-10, atol=1e-14)
            for key, term in expected.terms.items():
                torch.testing.assert_close(loss.terms[key], term, rtol=1e-12, atol=0)


@pytest.mark.parametrize("tile", TILES)
def test_ids_and_keys_both_leave_out(tile) -> None:
    a, t = plain(4)
    ids, keys = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 2])
    loss = hard_negatives(a, t, TEN, ids=ids, keys=keys, tile=tile)
    logits = 10 * normalize(a.detach()) @ normalize(t.detach()).T
    logits[[0, 1, 2, 3], [1, 0, 3, 2]] = -torch.inf
    torch.testing.assert_close(loss.terms["a_to_b"], cross_entropy(logits, torch.arange(4)))
    torch.testing.assert_close(loss.terms["b_to_a"], cross_entropy(logits.T, torch.arange(4)))


@pytest.mark.parametrize("tile", TILES)
def test_modular_without_positives_is_the_stage_of_hard_negatives(tile) -> None:
    a, t = plain()
    false = torch.randn(6, 3, 4, dtype=torch.float64, requires_grad=True)
    allowed = torch.rand(6, 3) < 0.6
    options: dict[str, Any] = {"negatives": false, "tile": tile}
    expected = hard_negatives(a, t, TEN, allowed=allowed, **options).value
    wanted = torch.autograd.grad(expected, (a, t, false))
    for denominator in ("own", "all"):
        for positives in (None, t.detach()[:, None]):
            none = None if positives is None else torch.zeros(6, 1, dtype=torch.bool)
            value = modular(
                a,
                t,
                TEN,
                positives=positives,
                allowed_positives=none,
                allowed_negatives=allowed,
                denominator=denominator,
                **options,
            ).value
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
            grads = torch.autograd.grad(value, (a, t, false))
            torch.testing.assert_close(grads, wanted, rtol=1e-10, atol=1e-14)
