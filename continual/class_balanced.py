"""A memory whose classes are of one size, and each a uniform draw of what was offered of it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from continual.memory import CountingMemory


class ClassBalancedMemory(CountingMemory):
    """Class-balancing reservoir sampling (CBRS, Chrysakis & Moens 2020, algorithm 1).

    Per item, of a class of which m are held and n were seen, it included: if the memory is not
    full, append. Else, if the class is a full one (now, or once since the memory filled, among the
    largest ones held), the item is taken with probability m / n, for a random one of its class. Any
    other class grows: the item is taken for a random one of the largest class.

    Hence what is held of a class is a uniform draw of all of it, whatever domains it came in, and a
    class offered more often than held has at least (largest count - 1) items. A class that has lost
    all of its items (more classes than places) stays out.

    A class is full if it has lost an item or is among the largest: no other can outgrow those.
    O(1) work per item. ``_seen``: class -> n; ``_classes``: count -> its classes; ``_slots``:
    class -> its slots; ``_place``: class -> position in its list of ``_classes``.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        super().__init__(capacity, seed)
        self._arrange([], [])

    def _arrange(self, slots: list[int], labels: list[int]) -> None:
        self._slots: defaultdict[int, list[int]] = defaultdict(list)
        self._classes: defaultdict[int, list[int]] = defaultdict(list)
        self._place: dict[int, int] = {}
        self._largest = 0
        for slot, label in zip(slots, labels, strict=True):
            self._slots[label].append(slot)
        for label, members in self._slots.items():
            self._move(label, 0, len(members))

    def _write(self, indices: Tensor, labels: Tensor, features: Tensor | None) -> None:
        first, slots, items = self._size, [], []
        fill = min(len(indices), self.capacity - first)
        draws = self._uniform(len(indices) - fill, 2).tolist()
        for item, label in enumerate(labels.tolist()):
            self._seen[label] += 1
            slot = first + item if item < fill else self._make_room(label, *draws[item - fill])
            if slot is not None:
                self._slots[label].append(slot)
                self._move(label, len(self._slots[label]) - 1, len(self._slots[label]))
                slots.append(slot)
                items.append(item)
        self._size += fill
        self._indices.numpy()[slots] = indices.numpy()[items]
        self._labels.numpy()[slots] = labels.numpy()[items]

    def _make_room(self, label: int, for_class: float, for_item: float) -> int | None:
        """Free the slot that a new item of class ``label`` takes; None if it is not taken."""
        held, seen = len(self._slots[label]), self._seen[label]
        full = held < seen - 1 or held == self._largest
        if full and for_class * seen >= held:
            return None
        equals = self._classes[self._largest]
        loser = label if full else equals[int(for_class * len(equals))]
        slots = self._slots[loser]
        position = int(for_item * len(slots))
        slot, slots[position] = slots[position], slots[-1]
        del slots[-1]
        self._move(loser, len(slots) + 1, len(slots))
        if not self._classes[self._largest]:
            self._largest -= 1
        return slot

    def _move(self, label: int, old: int, new: int) -> None:
        """Take a class from the list of its old count to that of its new one (0 has no list)."""
        if old:
            classes, place = self._classes[old], self._place[label]
            classes[place] = last = classes[-1]
            self._place[last] = place
            del classes[-1]
        if new:
            self._place[label] = len(self._classes[new])
            self._classes[new].append(label)
            self._largest = max(self._largest, new)

    def _extra(self) -> dict[str, Any]:
        # In the order of the lists, at which the random numbers to come will point.
        order = [s for n in sorted(self._classes) for c in self._classes[n] for s in self._slots[c]]
        return {**super()._extra(), "slots": torch.tensor(order, dtype=torch.int64)}

    def _load_extra(self, state: dict[str, Any]) -> None:
        super()._load_extra(state)
        slots = state["slots"].cpu()
        self._arrange(slots.tolist(), self._labels[slots].tolist())
