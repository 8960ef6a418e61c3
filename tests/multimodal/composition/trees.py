"""Trees for the tests: drawn by hypothesis, and all of few events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import strategies as st

from multimodal.composition.expressions import LETTERS, Overlay, Sequence, Slot, Tree


@st.composite
def trees(draw: st.DrawFn, most: int = 8) -> Tree:
    """Of 2 to ``most`` events with any letters, from neighbours that are joined one by one."""
    letters = draw(st.permutations(LETTERS))[: draw(st.integers(2, most))]
    parts: list[Tree] = [Slot(letter) for letter in letters]
    while len(parts) > 1:
        at = draw(st.integers(0, len(parts) - 2))
        kind = draw(st.sampled_from([Sequence, Overlay]))
        parts[at : at + 2] = [kind((parts[at], parts[at + 1]))]
    return parts[0]


def all_trees(count: int, first: int = 0) -> Iterator[Tree]:
    """Every tree of the events A, B, ... in this order; some several times."""
    if count == 1:
        yield Slot(LETTERS[first])
        return
    for left in range(1, count):
        pairs = itertools.product(
            list(all_trees(left, first)), list(all_trees(count - left, first + left))
        )
        for one, other in pairs:
            yield Sequence((one, other))
            yield Overlay((one, other))
