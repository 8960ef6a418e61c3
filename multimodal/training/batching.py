"""The order of an epoch: batches of recordings of similar length, in random order.

Or of few meanings, where the config says so: ``meanings.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from multimodal.errors import UserError
from multimodal.training.config import FitConfig
from multimodal.training.meanings import MeaningBatches

BUCKET_BATCHES = 8  # recordings of so many batches are sorted by length together


def epoch_batches(
    lengths: np.ndarray,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    multiple: int = 1,
    smallest: int = 2,
) -> list[np.ndarray]:
    """Positions (0 to N - 1) of each batch; a pure function of its arguments.

    lengths: (N,). Recordings are shuffled, sorted by length within pools of BUCKET_BATCHES batches
    (padding then costs little, and batches stay random), cut, and the batches shuffled. With equal
    lengths the sort changes nothing. The shorter batch at the end is cut to a multiple of
    ``multiple`` (processes), and left out below ``smallest`` recordings a process (a contrastive
    batch of one has no negatives). So an epoch has every position once, but for those.
    """
    rng = np.random.default_rng([seed, epoch])
    order, pool = rng.permutation(len(lengths)), batch_size * BUCKET_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    batches = [b[: len(b) // multiple * multiple] for b in batches]
    batches = [b for b in batches if len(b) >= smallest * multiple]
    return [batches[i] for i in rng.permutation(len(batches))]


def count_batches(count: int, batch_size: int, *, multiple: int = 1, smallest: int = 2) -> int:
    """How many ``epoch_batches`` makes of so many recordings."""
    last = count % batch_size
    return count // batch_size + (last // multiple >= smallest)


class Batches(Protocol):
    @property
    def count(self) -> int:
        """Of each epoch."""
        ...

    def of_epoch(self, epoch: int) -> list[np.ndarray]:
        """Positions of each batch, in the order of training; a function of the epoch alone."""
        ...


@dataclass(frozen=True)
class LengthBatches:
    """``epoch_batches`` of one run."""

    lengths: np.ndarray
    batch_size: int
    seed: int
    multiple: int
    smallest: int = 2

    @property
    def count(self) -> int:
        sizes = {"multiple": self.multiple, "smallest": self.smallest}
        return count_batches(len(self.lengths), self.batch_size, **sizes)

    def of_epoch(self, epoch: int) -> list[np.ndarray]:
        return epoch_batches(
            self.lengths,
            self.batch_size,
            seed=self.seed,
            epoch=epoch,
            multiple=self.multiple,
            smallest=self.smallest,
        )


def make_batches(
    config: FitConfig,
    lengths: np.ndarray,
    meaning_of: Sequence[str] | None,
    *,
    seed: int,
    processes: int,
    smallest: int = 2,
) -> Batches:
    """Those of the config; meaning_of: the class of each recording, for ``config.batch``.

    smallest: recordings that a process needs at least.

    UserError: meanings that do not fit the recordings, or processes that would cut their batches.
    """
    if config.batch is None:
        return LengthBatches(lengths, config.batch_size, seed, processes, smallest)
    assert meaning_of is not None
    size, meanings = config.batch_size, config.batch.meanings
    if size % processes or size < 2 * processes:
        fits = math.lcm(2 * processes, meanings)
        raise UserError(
            f"training.batch.meanings={meanings}: training.batch_size={size} cannot be shared "
            f"evenly by {processes} processes, two recordings or more each; set a multiple of "
            f"{fits}, or start another number of processes."
        )
    return MeaningBatches(meaning_of, batch_size=size, meanings=meanings, seed=seed)
