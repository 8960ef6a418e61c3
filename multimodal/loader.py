"""Rows of a manifest -> their batch on the device, the same way wherever batches are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

AnyBatch = TypeVar("AnyBatch")


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
