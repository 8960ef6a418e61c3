from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.composition.expressions import Sequence, Slot, Tree, parse, slots
from multimodal.composition.layout import place
from tests.multimodal.composition.trees import all_trees


def oracle(tree: Tree, lengths: list[int], gap: int, shift: list[float], loop: bool):
    """Of one scene: {event: (onset, copies)} and the length of the whole, part by part."""
    if isinstance(tree, Slot):
        return {tree.number: (0, 1)}, lengths[tree.number]
    parts = [oracle(part, lengths, gap, shift, loop) for part in tree.parts]
    found, end = {}, 0
    if isinstance(tree, Sequence):
        for events, size in parts:
            found |= {e: (on + end, n) for e, (on, n) in events.items()}
            end += size + gap
        return found, end - gap
    longest = max(size for _, size in parts)
    composed = any(not isinstance(part, Slot) for part in tree.parts)
    for part, (events, size) in zip(tree.parts, parts, strict=True):
        if loop and composed and isinstance(part, Slot):
            copies = 1
            while (copies + 1) * size <= longest:
                copies += 1
            events, size = {part.number: (0, copies)}, copies * size
        start = int(shift[min(slots(part))] * (longest - size + 1))
        assert start + size <= longest
        found |= {e: (on + start, n) for e, (on, n) in events.items()}
    return found, longest


@settings(max_examples=60)
@given(st.sampled_from(sorted(set(all_trees(4)), key=str)), st.integers(0, 10**6), st.booleans())
def test_places_are_the_oracles(tree: Tree, seed: int, loop: bool) -> None:
    rng = np.random.default_rng(seed)
    lengths, gap = rng.integers(1, 50, (6, 4)), rng.integers(0, 9, 6)
    shift = rng.random((6, 4))
    placed = place(tree, lengths, gap, shift, loop=loop)
    for row in range(6):
        events, total = oracle(tree, lengths[row].tolist(), gap[row], shift[row].tolist(), loop)
        assert placed.total[row] == total
        assert {e: (placed.onsets[row, e], placed.loops[row, e]) for e in events} == events


def test_a_background_is_repeated_in_whole_copies() -> None:
    lengths, gap = np.array([[10, 25, 20]]), np.array([3])
    placed = place(parse("A*(B+C)"), lengths, gap, np.full((1, 3), 0.999), loop=True)
    assert placed.loops.tolist() == [[4, 1, 1]]  # 4 times 10 of 25 + 3 + 20
    assert placed.onsets.tolist() == [[8, 0, 28]]
    flat = place(parse("A*B*C"), lengths, gap, np.zeros((1, 3)), loop=True)
    assert flat.loops.tolist() == [[1, 1, 1]]  # nothing composed, nothing repeated
    assert flat.total.tolist() == [25]
