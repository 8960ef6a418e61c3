"""Memories for rehearsal. They hold INDICES (rows of a Manifest) and labels, never signals.

Every random choice comes from the memory's own CPU generator, never from the global one. The state
is tensors and plain integers only; a resumed memory goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from continual.herding import herding_order
from multimodal.errors import UserError, did_you_mean

IntVector = Tensor | np.ndarray | Sequence[int]


class Memory:
    """What learners rely on; a policy implements ``_write`` and, if it has more state, ``_extra``.

    capacity: the most items held, at least 1. seed: of the memory's own generator.
    """

    needs_features: ClassVar[bool] = False

    def __init__(self, capacity: int, seed: int) -> None:
        if capacity < 1:
            raise UserError(f"memory capacity {capacity}: must be at least 1.")
        self.capacity = capacity
        self._size = 0
        self._indices = torch.empty(capacity, dtype=torch.int64)
        self._labels = torch.empty(capacity, dtype=torch.int64)
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._size

    @property
    def indices(self) -> Int64[Tensor, " held"]:
        """(len,) int64, a copy; position k belongs to position k of ``labels``."""
        return self._indices[: self._size].clone()

    @property
    def labels(self) -> Int64[Tensor, " held"]:
        """(len,) int64, a copy."""
        return self._labels[: self._size].clone()

    def update(
        self, indices: IntVector, labels: IntVector, features: Float[Tensor, "..."] | None = None
    ) -> None:
        """Offer N items in stream order.

        indices: (N,) rows of the Manifest, >= 0. labels: (N,) class ids. features: (N, D) float,
        read only by policies with ``needs_features``. ValueError for shapes that do not agree.
        """
        rows, classes = _int_vector("indices", indices), _int_vector("labels", labels)
        if len(rows) != len(classes):
            raise ValueError(f"{len(rows)} indices but {len(classes)} labels.")
        if len(rows) and rows.numpy().min() < 0:
            raise ValueError(f"indices contain {int(rows.min())}; rows of a Manifest are >= 0.")
        self._write(rows, classes, features)

    def sample(self, n: int) -> Int64[Tensor, " drawn"]:
        """(min(n, len),) int64 indices: a uniform draw without replacement, in random order."""
        if n < 0:
            raise ValueError(f"cannot sample {n} items.")
        return self._indices[torch.randperm(self._size, generator=self._generator)[:n]]

    def state_dict(self) -> dict[str, Any]:
        """Everything that later calls depend on; copies, int and Tensor values only."""
        return {
            "capacity": self.capacity,
            "indices": self.indices,
            "labels": self.labels,
            "generator": self._generator.get_state(),
            **self._extra(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()`` of a memory of the same policy and capacity, else UserError.

        The tensors may lie on any device. A refused state leaves the memory as it was.
        """
        if state.keys() != self.state_dict().keys() or state["capacity"] != self.capacity:
            raise UserError(
                f"memory checkpoint, capacity {state.get('capacity')}, keys {sorted(state)}, does "
                f"not fit {type(self).__name__}({self.capacity}): keep the policy and capacity."
            )
        self._size = size = len(state["indices"])
        self._generator.set_state(state["generator"].cpu())
        self._indices[:size] = state["indices"].cpu()
        self._labels[:size] = state["labels"].cpu()
        self._load_extra(state)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=self._generator)

    def _write(self, indices: Tensor, labels: Tensor, features: Tensor | None) -> None:
        raise NotImplementedError

    def _extra(self) -> dict[str, Any]:
        return {}

    def _load_extra(self, state: dict[str, Any]) -> None:
        """Restore what ``_extra`` gave, after indices and labels."""


class ReservoirMemory(Memory):
    """Algorithm R (Vitter 1985): each item so far is held with probability capacity / seen.

    Per item: seen += 1; if not full append; else j uniform in {0..seen-1}; replace slot j if j <
    capacity. j = floor(u * seen) with one 53-bit u per surplus item, so a batch and the same items
    one by one leave the same memory (bias of P(j) about 2^-53).
    """

    seen = 0

    def _write(self, indices: Tensor, labels: Tensor, features: Tensor | None) -> None:
        count, start = indices.shape[0], self._size
        fill = min(count, self.capacity - start)
        if fill:
            self._indices[start : start + fill] = indices[:fill]
            self._labels[start : start + fill] = labels[:fill]
            indices, labels = indices[fill:], labels[fill:]
        if fill < count:
            seen = np.arange(self.seen + fill + 1, self.seen + count + 1)
            slots = self._uniform(count - fill).numpy() * seen
            taken = (slots < self.capacity).nonzero()[0]
            slots = slots[taken].astype(np.int64)
            # NumPy writes in order: of two items for one slot the later wins; torch promises none.
            self._indices.numpy()[slots] = indices.numpy()[taken]
            self._labels.numpy()[slots] = labels.numpy()[taken]
        self._size, self.seen = start + fill, self.seen + count

    def _extra(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def _load_extra(self, state: dict[str, Any]) -> None:
        self.seen = int(state["seen"])


class ClassBalancedMemory(Memory):
    """Greedy balancing: when full, an item of the largest class makes room for the new one.

    Per item: if not full, append. Else count the classes held, the new item included, and take
    the largest (uniform among equals). One of its items, uniform, the new one included if it is of
    that class, loses: the new item takes the loser's slot, or is dropped if it lost. Hence a class
    offered more often than held has at least (largest count - 1) items.

    The released Si-Blurry code never drops the new item. Either way the items of a class lean
    towards its newest (unlike CBRS, Chrysakis & Moens 2020).

    O(1) work per item. ``_classes``: count -> its classes; ``_slots``: class -> its slots;
    ``_place``: class -> position in its list of ``_classes``.
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
        """Free the loser's slot; None if the new item of class ``label`` loses."""
        counted = len(self._slots[label]) + 1
        equals = self._classes[self._largest] if counted <= self._largest else []
        chosen = int(for_class * (len(equals) + (counted >= self._largest)))
        loser = equals[chosen] if chosen < len(equals) else label
        slots = self._slots[loser]
        position = int(for_item * (len(slots) + (loser == label)))
        if position == len(slots):
            return None
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
        return {"slots": torch.tensor(order, dtype=torch.int64)}

    def _load_extra(self, state: dict[str, Any]) -> None:
        slots = state["slots"].cpu()
        self._arrange(slots.tolist(), self._labels[slots].tolist())


class HerdingMemory(Memory):
    """Exemplars of iCaRL (Rebuffi et al. 2017, algorithms 4 and 5).

    Call ``update`` once per experience, with all its items and their features under the current
    model. Each class then holds at most m = capacity // (classes seen) exemplars, ranked by
    ``herding_order``; lists of earlier classes are cut to their first m. UserError where m is 0.
    iCaRL's classes never come back; if one does (blurry streams), its list stays and the places
    still free go to its new items, ranked among themselves. Items lie class by class in the order
    of arrival (ascending within an experience), best first.
    """

    needs_features = True

    def _write(self, indices: Tensor, labels: Tensor, features: Tensor | None) -> None:
        if features is None or features.ndim != 2 or len(features) != len(indices):
            got = None if features is None else tuple(features.shape)
            raise ValueError(f"herding needs features ({len(indices)}, D), got {got}.")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("herding features contain NaN or infinity.")
        classes = list(dict.fromkeys(self.labels.tolist() + labels.unique().tolist()))
        quota = self.capacity // max(len(classes), 1)
        if classes and not quota:
            need = f"herding {len(classes)} classes needs at least {len(classes)}"
            raise UserError(f"memory capacity {self.capacity}: {need}.")
        held, held_labels = self.indices, self.labels
        self._size = 0
        for label in classes:
            kept = held[held_labels == label][:quota]
            new = (labels == label).nonzero().squeeze(1)
            best = herding_order(features[new.to(features.device)], quota - len(kept))
            ranked = torch.cat([kept, indices[new[best]]])
            start, self._size = self._size, self._size + len(ranked)
            self._indices[start : self._size] = ranked
            self._labels[start : self._size] = label


MEMORIES: dict[str, type[Memory]] = {
    "reservoir": ReservoirMemory,
    "class_balanced": ClassBalancedMemory,
    "herding": HerdingMemory,
}


def make_memory(policy: str, capacity: int, seed: int) -> Memory:
    """A memory by its name in a config; UserError for an unknown policy or capacity < 1."""
    if policy not in MEMORIES:
        raise UserError(f"unknown memory policy {policy!r}{did_you_mean(policy, list(MEMORIES))}")
    return MEMORIES[policy](capacity, seed)


def _int_vector(name: str, values: IntVector) -> Tensor:
    if isinstance(values, Tensor) and values.dtype == torch.int64 and values.dim() == 1:
        return values.cpu()
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a vector of integers, got {array.shape}, {array.dtype}.")
    return torch.from_numpy(array.astype(np.int64))
