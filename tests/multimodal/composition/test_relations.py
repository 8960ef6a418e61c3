from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.composition.relations import (
    FALSE,
    TRUE,
    UNDECIDED,
    Constraint,
    Judge,
    Rules,
    verdict,
)
from tests.multimodal.composition.oracles import decided

BEFORE, WITH = Constraint("before", (0,), (1,)), Constraint("with", (0,), (1,))
NUMBER = {True: TRUE, False: FALSE, None: UNDECIDED}


@pytest.mark.parametrize(
    ("x", "y", "before", "with_"),
    [
        ((0, 1), (1.5, 3), True, False),
        ((0, 1), (0.9, 3), True, False),  # shares 0.1 of 1: as much as eps and theta_lo allow
        ((0, 1), (0.85, 3), None, None),
        ((0, 1), (0.5, 3), False, True),
        ((1, 2), (0, 5), False, True),
        ((2, 3), (0, 1), False, False),
        ((2, 3), (0, 2.2), None, None),
        ((0, 0.12), (0.03, 0.1), None, True),  # so short that each is before the other
        ((0, 0.15), (0, 0.15), False, True),
    ],
)
def test_verdicts_of_two_events(x, y, before, with_) -> None:
    assert verdict([BEFORE], [x, y]) is before
    assert verdict([WITH], [x, y]) is with_


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(["shorter", "union"]))
def test_verdicts_are_the_oracles(seed: int, share_of) -> None:
    rng, rules = np.random.default_rng(seed), Rules(share_of=share_of)
    # Coarse times, so that equal ones come.
    onsets = rng.integers(0, 20, (30, 4)) / 8
    offsets = onsets + rng.integers(1, 12, (30, 4)) / 8
    groups = [(0,), (1,), (2,), (3,), (0, 1), (2, 3)]
    sets = []
    for _ in range(8):
        pairs = rng.choice(6, size=(int(rng.integers(1, 4)), 2))
        kinds = rng.choice(["before", "with"], size=len(pairs))
        pairs = [(str(k), groups[i], groups[j]) for k, (i, j) in zip(kinds, pairs, strict=True)]
        sets.append([Constraint(*p) for p in pairs])  # pyright: ignore[reportArgumentType]
    judge = Judge(onsets, offsets, rules)
    for constraints in sets:
        expected = []
        for row in range(30):
            events = np.stack([onsets[row], offsets[row]], axis=1).tolist()
            each = [decided(c, events, rules) for c in constraints]
            expected.append(False if False in each else True if all(each) else None)
            assert verdict(constraints, events, rules) is expected[-1]
        np.testing.assert_array_equal(
            judge.verdicts(constraints), [NUMBER[found] for found in expected]
        )


def test_nothing_claimed_is_true() -> None:
    assert verdict([], [(0, 1), (2, 3)]) is True


def test_groups_are_their_hulls() -> None:
    events = [(0, 1), (5, 6), (2, 3), (6, 9)]
    assert verdict([Constraint("with", (0, 1), (2,))], events) is True  # 2 lies in a gap
    assert verdict([Constraint("before", (0, 2), (1, 3))], events) is True
    assert verdict([Constraint("before", (1, 3), (0, 2))], events) is False


def test_a_short_event_within_a_long_one_by_either_measure() -> None:
    events = [(0, 9), (4, 5)]
    assert verdict([WITH], events) is True
    assert verdict([WITH], events, Rules(share_of="union")) is None  # 1 / 9 of the union
