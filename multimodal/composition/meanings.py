"""What a composition claims, and the compositions near it that claim something else.

The claim of a tree as constraints (``relations``), with hulls of parts in the last case only::

    X + Y         every event of X is BEFORE every event of Y
    X * Y         X WITH Y;  if X is one event it is with each event of Y ("X throughout"), else
                  the two hulls are with each other
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Columns
from functools import cache
from typing import TypeAlias

from multimodal.composition.expressions import Node, Overlay, Sequence, Slot, Tree, slots
from multimodal.composition.relations import Constraint


@cache
def constraints(tree: Tree) -> tuple[Constraint, ...]:
    """The claim of a tree; none of a single event."""
    if isinstance(tree, Slot):
        return ()
    found = [c for part in tree.parts for c in constraints(part)]
    for one, other in itertools.combinations(tree.parts, 2):
        found += _between(tree, one, other)
    return tuple(found)


def _between(tree: Node, one: Tree, other: Tree) -> list[Constraint]:
    pairs = itertools.product(slots(one), slots(other))
    if isinstance(tree, Sequence):
        return [Constraint("before", (x,), (y,)) for x, y in pairs]
    if isinstance(one, Slot) or isinstance(other, Slot):
        return [Constraint("with", (x,), (y,)) for x, y in pairs]
    return [Constraint("with", slots(one), slots(other))]


def meaning(tree: Tree, words: Columns[str]) -> str:
    """Equal for trees that claim the same of the same words (of each column)."""
    if isinstance(tree, Slot):
        return repr(words[tree.number])
    parts = [meaning(part, words) for part in tree.parts]
    if isinstance(tree, Sequence):
        return f"({' + '.join(parts)})"
    return f"({' * '.join(sorted(parts))})"


def restricted(tree: Tree, kept: frozenset[int]) -> Tree | None:
    """What is left of a tree if only these events are kept; None if nothing is."""
    if isinstance(tree, Slot):
        return tree if tree.number in kept else None
    left = [p for part in tree.parts if (p := restricted(part, kept)) is not None]
    return left[0] if len(left) == 1 else type(tree)(tuple(left)) if left else None


def restrictions(tree: Tree, size: int) -> Iterator[Tree]:
    """What is left of a tree of any ``size`` of its events."""
    for kept in itertools.combinations(sorted(slots(tree)), size):
        found = restricted(tree, frozenset(kept))
        assert found is not None
        yield found


def flips(tree: Tree) -> Iterator[Tree]:
    """Every tree with one operator or more exchanged, the events in their places."""
    return (t for t in _everywhere(tree, _either_operator) if t != tree)


def swaps(tree: Tree) -> Iterator[Tree]:
    """Every tree with two operands of one or more operators exchanged, the operators kept."""
    return (t for t in _everywhere(tree, _two_exchanged) if t != tree)


Parts: TypeAlias = tuple[Tree, ...]
Change: TypeAlias = Callable[[type[Node], Parts], Iterator[Node]]


def _either_operator(kind: type[Node], parts: Parts) -> Iterator[Node]:
    yield Sequence(parts)
    yield Overlay(parts)


def _two_exchanged(kind: type[Node], parts: Parts) -> Iterator[Node]:
    yield kind(parts)
    for i, j in itertools.combinations(range(len(parts)), 2):
        changed = list(parts)
        changed[i], changed[j] = changed[j], changed[i]
        yield kind(tuple(changed))


def _everywhere(tree: Tree, change: Change) -> Iterator[Tree]:
    """All ways to change each operator of a tree, "not at all" being one of each.

    Operators are changed before trees are made flat, so that none is lost.
    """
    if isinstance(tree, Slot):
        yield tree
        return
    for parts in itertools.product(*(list(_everywhere(p, change)) for p in tree.parts)):
        yield from change(type(tree), parts)


def turned(tree: Tree) -> Tree:
    """The twin: every sequence that is in no other reversed; if there is none, the parts of the
    overlay in sequence.
    """
    if isinstance(tree, Overlay) and all(isinstance(part, Slot) for part in tree.parts):
        return Sequence(tree.parts)
    return _in_sequences(tree, lambda parts: parts[::-1])


def tail_turned(tree: Tree) -> Tree:
    """The last two parts of every sequence that is in no other exchanged: of three events the
    first stays.
    """
    return _in_sequences(tree, lambda parts: (*parts[:-2], *parts[:-3:-1]))


def tail_overlaid(tree: Tree) -> Tree:
    """The last two parts of every sequence that is in no other at the same time."""
    if isinstance(tree, Sequence):
        both = Overlay(tree.parts[-2:])
        return Sequence((*tree.parts[:-2], both)) if len(tree.parts) > 2 else both
    return tree if isinstance(tree, Slot) else Overlay(tuple(map(tail_overlaid, tree.parts)))


def _in_sequences(tree: Tree, change: Callable[[Parts], Parts]) -> Tree:
    if isinstance(tree, Sequence):
        return Sequence(change(tree.parts))
    if isinstance(tree, Slot):
        return tree
    return Overlay(tuple(_in_sequences(part, change) for part in tree.parts))
