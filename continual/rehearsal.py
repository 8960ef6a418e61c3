"""The memories that a config can name, and the reservoir."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from continual.class_balanced import ClassBalancedMemory
from continual.herding import HerdingMemory
from continual.memory import Memory
from multimodal.errors import UserError, did_you_mean


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
