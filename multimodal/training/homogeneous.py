"""Batches of one task each: data sets that are trained on together and never mixed in a batch.

CoDiEmb, 2025, arXiv:2508.11442, its task-homogeneous sampler, by its authors' code: negatives are
then of the own data set, which cannot be told apart by its style, and every data set has its own
batch size. We deviate from that code, which with several accumulation steps uses only the first of
a global batch's parts; here all of it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HomogeneousBatches:
    """task_of: (N,) the data set of each position. batch_size: recordings of it a process and
    accumulation step, of each data set. shares: of its batches, in (0, 1], the part that an epoch
    has; None: all.

    Data set t of n_t recordings has floor(n_t / (b_t R A)) global batches of b_t R A recordings, R
    processes and A accumulation steps; what is left over changes from epoch to epoch, and global
    batches of all data sets come in random order. A process takes one of R consecutive parts, and
    these are disjoint, since all processes draw the same. No position comes twice an epoch.
    ValueError: no data set has enough for a batch, or a setting does not fit.
    """

    task_of: Sequence[str]
    batch_size: Mapping[str, int]
    seed: int
    processes: int = 1
    accumulation: int = 1
    shares: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        names = sorted(set(self.task_of))
        for setting, given in (("batch_size", self.batch_size), ("shares", self.shares)):
            lacking = [n for n in names if given is not None and n not in given]
            if lacking:
                raise ValueError(
                    f"{setting}: nothing for {', '.join(lacking)}; name each data set."
                )
        for name, size in self.batch_size.items():
            if size < 1:
                raise ValueError(f"batch_size of {name}: {size}; give at least 1.")
        for name, share in (self.shares or {}).items():
            if not 0 < share <= 1:
                raise ValueError(f"shares of {name}: {share}; give a number in (0, 1].")
        if self.processes < 1 or self.accumulation < 1:
            raise ValueError(
                f"processes: {self.processes}, accumulation: {self.accumulation}; give at least 1."
            )
        if self.count == 0:
            raise ValueError(
                "batch_size: no data set has recordings for one batch of all processes; make it "
                "smaller."
            )

    @property
    def batches_of(self) -> dict[str, int]:
        """Global batches of each data set an epoch."""
        names, counts = np.unique(np.asarray(self.task_of), return_counts=True)
        found = {}
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            whole = count // self._global(name)
            share = 1.0 if self.shares is None else self.shares[name]
            found[name] = int(share * whole + 1e-9)
        return found

    @property
    def count(self) -> int:
        return sum(self.batches_of.values())

    def of_epoch(self, epoch: int) -> list[np.ndarray]:
        """Positions of each global batch, a function of the epoch alone."""
        rng = np.random.default_rng([self.seed, epoch])
        tasks, batches = np.asarray(self.task_of), []
        for name, number in self.batches_of.items():
            size, order = self._global(name), rng.permutation(np.flatnonzero(tasks == name))
            batches += list(order[: number * size].reshape(number, size))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _global(self, name: str) -> int:
        return self.batch_size[name] * self.processes * self.accumulation


def part_of(
    batch: np.ndarray, *, rank: int, processes: int, step: int, accumulation: int
) -> np.ndarray:
    """What a process takes of a global batch in one of its accumulation steps, (b_t,)."""
    own = np.array_split(batch, processes)[rank]
    return np.array_split(own, accumulation)[step]
