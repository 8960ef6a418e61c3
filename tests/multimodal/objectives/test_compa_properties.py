"""CompA's objectives: least values, what a row may see, what is said of it, digits, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid

from multimodal.objectives.compa import hard_negatives, modular
from tests.multimodal.objectives.compa_oracle import arguments, at, cases

TILES = (None, 2)
TEN = torch.tensor(10.0, dtype=torch.float64)
NAMES = ("signals", "texts", "positives", "negatives", "negative_signals")
COUNTS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=5)
RAGGED = [(2, 0, 1), (0, 3, 0), (1, 1, 2), (0, 0, 0)]
# The exact example of the specification, by angle.
A, T = at(0, 90), at(20, 60)
FALSE = at(-30, 150)[:, None]
TRUE = at(10, 80)[:, None]  # beside the main texts


@pytest.mark.parametrize("tile", TILES)
def test_perfect_positives_cost_the_logarithm_of_their_number_or_nothing(tile) -> None:
    a = torch.eye(5, dtype=torch.float64)
    hundred = torch.tensor(100.0, dtype=torch.float64)
    for count in (1, 2, 6):
        same = a[:, None].expand(-1, count, -1)
        options: dict[str, Any] = {"positives": same, "negatives": -same, "tile": tile}
        of_all = modular(a, a, hundred, denominator="all", **options)
        assert of_all.terms["a_to_b"].item() == pytest.approx(math.log(count + 1), abs=1e-12)
        assert modular(a, a, hundred, **options).value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("tile", TILES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), counts=COUNTS, s=st.floats(0.1, 1000))
def test_own_is_never_negative(tile, seed, counts, s) -> None:
    # The quoted denominator, which leaves the numerator out, gives -0.195 in the exact example.
    found = arguments(cases(seed, counts))
    loss = modular(scale=torch.tensor(s, dtype=torch.float64), tile=tile, **found)
    assert loss.terms["a_to_b"] >= 0
    assert loss.terms["b_to_a"] >= 0


@pytest.mark.parametrize("tile", TILES)
def test_a_rows_negatives_are_its_own_affair(tile) -> None:
    a, t = at(0, 90, 45).requires_grad_(), at(20, 60, 50)
    negatives = at(-30, 150, 200)[:, None]
    blocked = torch.einsum("nd,mkd->nm", a.detach(), negatives)[~torch.eye(3, dtype=torch.bool)]
    assert (blocked < -0.4).sum() >= 3

    def outcome(negatives: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the losses a -> t, and the gradient of all losses for each signal."""
        loss = hard_negatives(a, t, TEN, negatives=negatives, tile=tile)
        return 3 * loss.terms["a_to_b"], torch.autograd.grad(loss.value, a)[0]

    before = outcome(negatives)
    for row in range(3):
        moved = negatives.clone()
        moved[row] = at(77)
        after = outcome(moved)
        others = [i for i in range(3) if i != row]
        torch.testing.assert_close(after[1][others], before[1][others], rtol=0, atol=1e-12)
        assert (after[1][row] - before[1][row]).abs().max() > 1e-3
        # The sum changes by what this row's log-sum-exp does, computed alone.
        alone = [
            torch.logsumexp(10 * a[row] @ torch.cat([t, x[row]]).T, 0) for x in (moved, negatives)
        ]
        torch.testing.assert_close(after[0] - before[0], (alone[0] - alone[1]).detach())


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("kind", ["negatives", "positives", "negative_signals"])
def test_blocked_vectors_of_negative_cosine_do_not_swallow_the_softmax(kind, tile) -> None:
    # Multiplied with -100,000 instead of removed, a blocked cosine of -1 would be the largest
    # logit: the first negative of each row is there, the second, opposite to all, is not.
    name = {"negatives": "allowed_negatives", "positives": "allowed_positives"}
    x = torch.stack([at(-30, 150), -(A + T)], 1)
    there = torch.tensor([[True, False]] * 2)
    options: dict[str, Any] = {"scale": TEN, "tile": tile}
    for denominator in ("own", "all"):
        allowed = {name.get(kind, "allowed_signals"): there, "denominator": denominator}
        blocked = modular(A, T, **{kind: x}, **allowed, **options)
        alone = modular(A, T, **{kind: x[:, :1]}, denominator=denominator, **options)
        torch.testing.assert_close(blocked.value, alone.value, rtol=1e-12, atol=0)
        assert blocked.value < 10


def test_a_negative_signal_is_heard_by_the_main_text_alone() -> None:
    like = at(15, 65)[:, None]
    terms = modular(A, T, TEN, positives=TRUE, negative_signals=like).terms
    without = modular(A, T, TEN, positives=TRUE).terms
    assert terms["a_to_b"] == without["a_to_b"]
    of_main = [hard_negatives(A, T, TEN, negative_signals=x).terms["b_to_a"] for x in (like, None)]
    # Half of the mean over the main text and one positive.
    torch.testing.assert_close(terms["b_to_a"] - without["b_to_a"], (of_main[0] - of_main[1]) / 2)


def test_what_is_said_of_the_negatives() -> None:
    false = torch.stack([at(0, 150), at(-30, 10)], 1)
    there = torch.tensor([[True, True], [False, False]])
    terms = hard_negatives(A, T, TEN, negatives=false, allowed=there).terms
    assert terms["negatives"] == 1
    assert terms["accuracy_negatives"] == 0  # a negative on the signal itself; row 2 has none
    assert terms["margin"].item() == pytest.approx(math.cos(math.radians(20)) - 1)
    terms = hard_negatives(A, T, TEN, negatives=FALSE).terms
    assert terms["accuracy_negatives"] == 1
    # Rows: cos 20 - cos 30 and cos 30 - cos 60 degrees.
    assert terms["margin"].item() == pytest.approx((math.cos(math.radians(20)) - 0.5) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_collapsed_text_tower_tells_nothing_apart(dtype) -> None:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(64, 96, generator=random, dtype=dtype)
    one = torch.randn(96, generator=random, dtype=dtype)
    for length in (1.0, 3.7):  # equal texts, if not equal vectors, of equal length
        terms = hard_negatives(
            a, one.expand(64, -1), TEN, negatives=length * one.expand(64, 3, -1)
        ).terms
        assert terms["accuracy_negatives"] == 0


@pytest.mark.parametrize("tile", TILES)
def test_confident_rows_keep_their_digits(tile) -> None:
    # log(1 + e^-60) is nothing to a log-sum-exp of 60 in float32; a weak positive makes it matter.
    options: dict[str, Any] = {"positives": at(70, 20)[:, None], "tile": tile}
    a, t = at(0, 90), at(0, 90)
    hundred = torch.tensor(100.0, dtype=torch.float64)
    exact = modular(a, t, hundred, **options).value
    # cos 70 degrees against the other text, cosine 0: both rows alike.
    gap = 100 * math.cos(math.radians(70))
    expected = -logsigmoid(torch.tensor(gap, dtype=torch.float64)) / 2
    assert modular(a, t, hundred, **options).terms["a_to_b"].item() == pytest.approx(
        expected.item(), rel=1e-9
    )
    single = {"positives": options["positives"].float(), "tile": tile}
    value = modular(a.float(), t.float(), hundred.float(), **single).value
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(dtype) -> None:
    options = {
        name: x.nan_to_num(0.0).to(dtype) if x.is_floating_point() else x
        for name, x in arguments(cases(2, RAGGED, width=32)).items()
    }
    double = {n: x.double() if x.is_floating_point() else x for n, x in options.items()}
    exact = modular(scale=TEN, **double)
    for tile in TILES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = modular(scale=TEN.float(), tile=tile, **options)
        assert loss.value.dtype == torch.float32
        for name, term in exact.terms.items():
            ours = loss.terms[name].double()
            torch.testing.assert_close(ours, term.double(), rtol=1e-4, atol=1e-5)


X, NONE = torch.randn(4, 3), torch.zeros(4, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"denominator": "mine"}, "denominator: 'mine'; choose one of own, all"),
        ({"negatives": X}, r"negatives: shape \(4, 3\); give K of each row of \(4, 3\)"),
        ({"positives": torch.randn(3, 2, 3)}, r"positives: shape \(3, 2, 3\)"),
        ({"negative_signals": torch.randn(4, 2, 5)}, r"negative_signals: shape \(4, 2, 5\)"),
        (
            {"negatives": X[:, None], "allowed_negatives": NONE},
            r"allowed negatives: .*4, 2",
        ),
        ({"negatives": X[:, None], "allowed_negatives": X[:, :1]}, "allowed negatives: .*float32"),
        ({"allowed_positives": NONE}, "positives: none, yet it is said which are there"),
        ({"positive_weights": torch.ones(2)}, r"positive_weights: \[1.0, 1.0\]; give 1 numbers"),
        ({"positive_weights": torch.zeros(1)}, r"positive_weights: \[0.0\]"),
        ({"keys": torch.zeros(4)}, "keys: .* torch.float32; give 4 integers"),
        ({"ids": torch.arange(3)}, "ids: .*give 4 integers"),
        ({"texts": X[:3]}, r"signals: shape \(4, 3\), texts: shape \(3, 3\)"),
        ({"tile": 0}, "tile: 0"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        modular(**{"signals": X, "texts": X, "scale": torch.tensor(1.0), **options})
