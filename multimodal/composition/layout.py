"""Where events lie: a tree, the lengths of its events and what was drawn -> exact onsets.

Whole steps throughout; N scenes of one tree at once, K events each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from multimodal.composition.expressions import Overlay, Sequence, Slot, Tree, slots


class Placed(NamedTuple):
    """onsets: (N, K) int64 steps from the start. loops: (N, K) copies of each event, back to back.
    total: (N,) steps from the first onset to the last offset.
    """

    onsets: np.ndarray
    loops: np.ndarray
    total: np.ndarray


def place(
    tree: Tree, lengths: np.ndarray, gap: np.ndarray, shift: np.ndarray, *, loop: bool
) -> Placed:
    """Parts of a sequence follow each other after ``gap``; those of an overlay lie within its
    longest. Nothing is cut.

    lengths: (N, K) int64 steps of one copy. gap: (N,) int64 steps. shift: (N, K) in [0, 1), how far
    an overlaid part starts of where it could start last; that of the part's first letter counts.
    loop: a single event beside a composed part is repeated in whole copies, while it fits.
    """
    layout = _Layout(lengths, gap, shift, loop)
    total = layout.measure(tree)
    layout.put(tree, np.zeros(len(lengths), dtype=np.int64))
    return Placed(layout.onsets, layout.loops, total)


class _Layout:
    def __init__(self, lengths: np.ndarray, gap: np.ndarray, shift: np.ndarray, loop: bool) -> None:
        self.lengths, self.gap, self.shift, self.loop = lengths, gap, shift, loop
        self.onsets, self.loops = np.zeros_like(lengths), np.ones_like(lengths)
        self.sizes: dict[Tree, np.ndarray] = {}

    def measure(self, tree: Tree) -> np.ndarray:
        """(N,) steps of a part; fills ``sizes`` and ``loops`` below it."""
        if isinstance(tree, Slot):
            size = self.lengths[:, tree.number]
        elif isinstance(tree, Sequence):
            size = sum(self.measure(p) for p in tree.parts) + self.gap * (len(tree.parts) - 1)
        else:
            size = np.max([self.measure(p) for p in tree.parts], axis=0)
            if self.loop and any(not isinstance(p, Slot) for p in tree.parts):
                self._repeat(tree, size)
        self.sizes[tree] = np.asarray(size)
        return self.sizes[tree]

    def _repeat(self, tree: Overlay, size: np.ndarray) -> None:
        for part in tree.parts:
            if isinstance(part, Slot):
                self.loops[:, part.number] = size // self.lengths[:, part.number]
                self.sizes[part] = self.loops[:, part.number] * self.lengths[:, part.number]

    def put(self, tree: Tree, start: np.ndarray) -> None:
        if isinstance(tree, Slot):
            self.onsets[:, tree.number] = start
            return
        for part in tree.parts:
            if isinstance(tree, Overlay):
                room = self.sizes[tree] - self.sizes[part] + 1
                self.put(part, start + (self.shift[:, min(slots(part))] * room).astype(np.int64))
            else:
                self.put(part, start)
                start = start + self.sizes[part] + self.gap
