"""What every memory for rehearsal is: INDICES (rows of a Manifest) and labels, never signals.

Every random choice comes from the memory's own CPU generator, never from the global one. The state
is tensors and plain integers only; a resumed memory goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from multimodal.errors import UserError

IntVector = Tensor | np.ndarray | Sequence[int]
COUNTS = "seen_by_class"


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
        return self._indices[self.random_order(self._size)[:n]]

    def random_order(self, n: int) -> Int64[Tensor, " {n}"]:
        """(n,) int64 positions 0 .. n - 1 in a random order."""
        return torch.randperm(n, generator=self._generator)

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


class CountingMemory(Memory):
    """``_seen``: class -> how many of its items were offered so far.

    A state of an earlier version, which did not count, goes on as if only what it holds had been
    offered. That is so while it is not full; a full one, which warns, leans to what comes later.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        super().__init__(capacity, seed)
        self._seen: Counter[int] = Counter()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.keys() == self.state_dict().keys() - {COUNTS}:
            state = {**state, COUNTS: _table(Counter(state["labels"].tolist()))}
            if len(state["indices"]) == state["capacity"] == self.capacity:
                warnings.warn(
                    "the memory is of a run that an earlier version began, without counts of what "
                    "it was offered: it leans to later recordings. A fresh run does not.",
                    stacklevel=2,
                )
        super().load_state_dict(state)

    def _extra(self) -> dict[str, Any]:
        return {COUNTS: _table(self._seen)}

    def _load_extra(self, state: dict[str, Any]) -> None:
        self._seen = Counter(dict(state[COUNTS].tolist()))


def _table(counts: Counter[int]) -> Int64[Tensor, "classes 2"]:
    """A row (class, count) for each, by class."""
    return torch.tensor(sorted(counts.items()), dtype=torch.int64).reshape(-1, 2)


def _int_vector(name: str, values: IntVector) -> Tensor:
    if isinstance(values, Tensor) and values.dtype == torch.int64 and values.dim() == 1:
        return values.cpu()
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a vector of integers, got {array.shape}, {array.dtype}.")
    return torch.from_numpy(array.astype(np.int64))
