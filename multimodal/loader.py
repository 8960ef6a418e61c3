"""Rows of a manifest -> their batch on the device, the same way wherever batches are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from multimodal.batch import Batch
from multimodal.recordings import Manifest

AnyBatch = TypeVar("AnyBatch")
SPREAD = 1.25  # longest over shortest recording of a batch of like lengths


class Signals(Protocol):
    """Where signals come from: recordings (``SignalCache``), or scenes composed of them."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def adapter(self) -> Any: ...

    def ensure(self, indices: ArrayLike) -> None: ...
    def usable(self, indices: ArrayLike) -> np.ndarray: ...
    def lengths(self, indices: ArrayLike) -> np.ndarray: ...
    def gather(self, indices: ArrayLike) -> Batch: ...
    def annotations(self, indices: ArrayLike) -> Batch: ...


class Loader(Generic[AnyBatch]):
    """Training, evaluation and embedding load through it.

    gather: rows -> a batch on the CPU, with ``to(device, non_blocking=...)`` and ``pin_memory()``
    (``SignalCache.gather``, ``EmbeddingCache.gather``). augment: changes a batch on the device at
    random (``Adapter.augment``), for training only; None: nothing.
    """

    def __init__(
        self,
        gather: Callable[[Any], AnyBatch],
        device: torch.device | str,
        *,
        augment: Callable[[AnyBatch], AnyBatch] | None = None,
    ) -> None:
        self.gather, self.device, self.augment = gather, torch.device(device), augment

    def load(self, rows: ArrayLike | torch.Tensor) -> AnyBatch:
        """The batch of these rows, in their order, on the device, without augmentation."""
        batch: Any = self.gather(rows)
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device)

    def training(self, rows: ArrayLike | torch.Tensor) -> AnyBatch:
        """The same with augmentation."""
        batch = self.load(rows)
        return batch if self.augment is None else self.augment(batch)

    def batches(self, rows: np.ndarray, size: int) -> Iterator[AnyBatch]:
        """All rows in order, ``size`` at a time."""
        for part in torch.as_tensor(rows).split(size):
            yield self.load(part)

    def alike(self, rows: np.ndarray, size: int, lengths: np.ndarray) -> Iterator[AnyBatch]:
        """All rows, those of like length together, so that hardly any padding is computed.

        lengths: of the rows. Where all are equal these are ``batches``.
        """
        for places in like_lengths(lengths, size):
            yield self.load(torch.as_tensor(rows[places]))


def like_lengths(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Places of N lengths, the shortest first, in batches of at most ``size`` places.

    The longest of a batch is at most ``SPREAD`` times its shortest; equal ones keep their order.
    """
    order = np.argsort(lengths, kind="stable")
    ascending, parts, start = lengths[order], [], 0
    while start < len(order):
        stop = int(np.searchsorted(ascending, SPREAD * ascending[start], side="right"))
        parts.append(order[start : min(start + size, stop)])
        start += len(parts[-1])
    return parts
