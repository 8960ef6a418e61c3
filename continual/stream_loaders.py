"""What stands in the place of Avalanche's data loaders, and where in a stream they begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from multimodal.batch import Batch


@dataclass
class Position:
    """Where training stands: the next step to take is ``step`` of ``epoch`` of ``experience``.

    total_steps counts the optimiser steps taken since the stream began.
    """

    experience: int = 0
    epoch: int = 0
    step: int = 0
    total_steps: int = 0

    @property
    def fresh(self) -> bool:
        """Nothing of the current experience has been trained on yet."""
        return self.epoch == 0 and self.step == 0

    def recordings(self, sizes: Sequence[int], batch_size: int, epochs: int) -> int:
        """Recordings met so far in experiences of ``sizes``, each of ``epochs``."""
        met = epochs * sum(sizes[: self.experience])
        if self.experience == len(sizes):
            return met
        here = sizes[self.experience]
        return met + self.epoch * here + min(self.step * batch_size, here)


class _Strategy(Protocol):
    position: Position
    device: Any
    train_mb_size: int
    eval_mb_size: int

    @property
    def steps_per_epoch(self) -> int: ...
    def order(self) -> Tensor: ...
    def load(self, rows: Tensor) -> tuple[Batch, Batch | None]: ...
    def batches(self, rows: np.ndarray) -> Iterator[Batch]: ...


class Remaining:
    """Iterating loads (stream batch, memory batch) from ``position.step`` to the epoch's end."""

    def __init__(self, strategy: _Strategy) -> None:
        self.strategy = strategy

    def __len__(self) -> int:
        return self.strategy.steps_per_epoch - self.strategy.position.step

    def __iter__(self) -> Iterator[tuple[Batch, Batch | None]]:
        strategy = self.strategy
        order = strategy.order().split(strategy.train_mb_size)
        for rows in order[strategy.position.step :]:
            yield strategy.load(rows)


class InOrder:
    """Iterating gives ``[Batch, labels, zeros]`` for the given rows, in order."""

    def __init__(self, strategy: _Strategy, rows: np.ndarray) -> None:
        self.strategy, self.rows = strategy, rows

    def __len__(self) -> int:
        return -(-len(self.rows) // self.strategy.eval_mb_size)

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self.strategy.batches(self.rows):
            zeros = torch.zeros(len(batch), dtype=torch.int64, device=self.strategy.device)
            yield [batch, batch.labels, zeros]
