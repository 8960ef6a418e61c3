"""The order of an epoch: batches of recordings of similar length, in random order.

Or of few meanings, or with near neighbours, where the config says so: ``meanings.py``,
``neighbours.py``.
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
from multimodal.training.neighbours import NONE

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


@dataclass(frozen=True)
class NearBatches:
    """Every batch of ``anchors``, each of which is joined by one of its neighbours.

    anchors: drawn as ever, each once an epoch. near: (N, K) as of ``nearest``. The neighbour is the
    first, in a random order, that is not in the batch already; an anchor without one stays alone,
    so a batch may be smaller than twice its anchors. Cut to a multiple of ``anchors.multiple``.
    """

    anchors: LengthBatches
    near: np.ndarray

    @property
    def count(self) -> int:
        return self.anchors.count

    def of_epoch(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.anchors.seed, epoch, 1])
        return [self._joined(batch, rng) for batch in self.anchors.of_epoch(epoch)]

    def _joined(self, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        near = rng.permuted(self.near[batch], axis=1)
        chosen = np.full(len(batch), NONE)
        for column in near.T:
            taken = np.concatenate([batch, chosen])
            fits = (chosen == NONE) & (column != NONE) & ~np.isin(column, taken)
            places = np.flatnonzero(fits)
            _, first = np.unique(column[places], return_index=True)
            chosen[places[first]] = column[places[first]]
        both = np.concatenate([batch, chosen[chosen != NONE]])
        return both[: len(both) // self.anchors.multiple * self.anchors.multiple]


def make_batches(
    config: FitConfig,
    lengths: np.ndarray,
    meaning_of: Sequence[str] | None,
    near: np.ndarray | None = None,
    *,
    seed: int,
    processes: int,
    smallest: int = 2,
) -> Batches:
    """Those of the config; meaning_of, near: the class and the neighbours of each recording, for
    ``config.batch``.

    smallest: recordings that a process needs at least.

    UserError: meanings that do not fit the recordings, or processes that would cut their batches.
    """
    if config.batch is None:
        return LengthBatches(lengths, config.batch_size, seed, processes, smallest)
    size, meanings = config.batch_size, config.batch.meanings
    if meanings is None:
        assert near is not None
        if size // 2 < smallest * processes:
            raise UserError(
                f"training.batch.neighbours: half of training.batch_size={size} is too few for "
                f"{processes} processes; set {2 * smallest * processes} or more."
            )
        anchors = LengthBatches(lengths, size // 2, seed, processes, smallest)
        return NearBatches(anchors, near)
    assert meaning_of is not None
    if size % processes or size < 2 * processes:
        fits = math.lcm(2 * processes, meanings)
        raise UserError(
            f"training.batch.meanings={meanings}: training.batch_size={size} cannot be shared "
            f"evenly by {processes} processes, two recordings or more each; set a multiple of "
            f"{fits}, or start another number of processes."
        )
    return MeaningBatches(meaning_of, batch_size=size, meanings=meanings, seed=seed)
