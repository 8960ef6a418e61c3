from __future__ import annotations

import itertools

import pytest
from hypothesis import given

from multimodal.composition.expressions import Overlay, Sequence, Slot, Tree, parse, slots
from multimodal.composition.meanings import (
    constraints,
    flips,
    meaning,
    restrictions,
    swaps,
    tail_overlaid,
    tail_turned,
    turned,
)
from multimodal.composition.relations import Constraint
from tests.multimodal.composition.trees import trees

WORDS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def before(x: int, y: int) -> Constraint:
    return Constraint("before", (x,), (y,))


def together(x: int, y: int) -> Constraint:
    return Constraint("with", (x,), (y,))


def test_claims() -> None:
    assert constraints(Slot("A")) == ()
    assert set(constraints(parse("A+B+C"))) == {before(0, 1), before(0, 2), before(1, 2)}
    assert set(constraints(parse("B*(A+C)"))) == {before(0, 2), together(1, 0), together(1, 2)}
    two = parse("(A+B)*(C+D)")
    assert set(constraints(two)) == {
        before(0, 1),
        before(2, 3),
        Constraint("with", (0, 1), (2, 3)),
    }


@given(trees(5))
def test_equal_meanings_are_equal_up_to_the_order_of_overlays(tree: Tree) -> None:
    def orders(part: Tree):
        """All ways to write a tree without changing what it says."""
        if isinstance(part, Slot):
            yield part
            return
        ways = itertools.product(*(list(orders(p)) for p in part.parts))
        for parts in itertools.islice(ways, 30):
            yield type(part)(parts)
            if isinstance(part, Overlay):
                yield Overlay(parts[::-1])

    found = {meaning(t, WORDS) for t in itertools.islice(orders(tree), 60)}
    assert len(found) == 1
    assert meaning(turned(tree), WORDS) not in found


def test_words_that_look_like_operators_do_not_join_meanings() -> None:
    assert meaning(parse("A+B"), ["a' + 'b", "c"]) != meaning(parse("A+B+C"), ["a", "b", "c"])
    one, other = ["a, b", "c"], ["a", "b, c"]
    assert meaning(parse("A*B"), one) != meaning(parse("A*B"), other)


@pytest.mark.parametrize(
    ("text", "flipped", "swapped"),
    [
        ("A+B", {"A*B"}, {"B+A"}),
        ("A+B+C", {"A*B*C"}, {"B+A+C", "C+B+A", "A+C+B"}),
        ("A*(B+C)", {"A+B+C", "A*B*C", "A+B*C"}, {"(B+C)*A", "A*(C+B)", "(C+B)*A"}),
    ],
)
def test_neighbours(text: str, flipped: set[str], swapped: set[str]) -> None:
    assert {str(t) for t in flips(parse(text))} == flipped
    assert {str(t) for t in swaps(parse(text))} == swapped


@given(trees(4))
def test_neighbours_have_the_same_events(tree: Tree) -> None:
    for near in itertools.chain(flips(tree), swaps(tree)):
        assert near != tree
        assert sorted(slots(near)) == sorted(slots(tree))
    assert all(slots(near) == slots(tree) for near in flips(tree))


def test_restrictions() -> None:
    found = [str(t) for t in restrictions(parse("(A+B)*(C+D)"), 3)]
    assert found == ["(A+B)*C", "(A+B)*D", "A*(C+D)", "B*(C+D)"]
    assert [str(t) for t in restrictions(parse("A+B*C"), 2)] == ["A+B", "A+C", "B*C"]


@given(trees(5))
def test_restrictions_claim_a_part_of_what_the_whole_claims(tree: Tree) -> None:
    whole = set(constraints(tree))
    for size in range(1, len(slots(tree))):
        for part in restrictions(tree, size):
            assert len(slots(part)) == size
            alone = {c for c in constraints(part) if len(c.first) == len(c.second) == 1}
            events = {(c.first, c.second) for c in whole}
            for c in alone - whole:  # of groups of which one event each is left
                assert c.kind == "with"
                assert any(c.first[0] in x and c.second[0] in y for x, y in events)


@pytest.mark.parametrize(
    ("text", "twin", "tail", "overlaid"),
    [
        ("A+B", "B+A", "B+A", "A*B"),
        ("A+B+C", "C+B+A", "A+C+B", "A+B*C"),
        ("(A+B)*C", "(B+A)*C", "(B+A)*C", "A*B*C"),
        ("A*B+C", "C+A*B", "C+A*B", "A*B*C"),
        ("A*B", "A+B", "A*B", "A*B"),
        ("(A+B)*(C+D)", "(B+A)*(D+C)", "(B+A)*(D+C)", "A*B*C*D"),
    ],
)
def test_twins(text: str, twin: str, tail: str, overlaid: str) -> None:
    tree = parse(text)
    assert [str(f(tree)) for f in (turned, tail_turned, tail_overlaid)] == [twin, tail, overlaid]
    assert isinstance(turned(parse("A*B")), Sequence)
