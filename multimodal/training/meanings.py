"""Batches of few meanings, each of which is said in many ways: a stress test of objectives.

CLIP-like training draws its batches blindly and so seldom meets two paraphrases in one. This
sampler knows the meaning (the class) of every training recording, which such training does not:
its scores tell what an objective makes of false negatives, not what it is worth in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multimodal.errors import UserError


class MeaningBatches:
    """Every batch has ``meanings`` distinct classes and k = batch_size / meanings of each.

    meaning_of: the class of each position. Let class c have n_c recordings, q_c = n_c // k groups.
    An epoch has as many batches as fit: the largest B with sum_c min(q_c, B) >= B meanings, since
    no recording comes twice and no batch has two groups of a class. What stays out (n_c - k q_c of
    a class, its groups beyond B, and fewer than ``meanings`` groups beside) changes from epoch to
    epoch: of a class those come first that were used least, so that counts of use differ by at most
    one, and groups without a place are of the classes whose recordings were used most.

    Lengths are not looked at. ``of_epoch`` is a function of the arguments and the epoch alone,
    whatever was asked for before, and knows of no processes.
    """

    def __init__(
        self, meaning_of: Sequence[str], *, batch_size: int, meanings: int, seed: int
    ) -> None:
        refuse_misfit(meaning_of, batch_size=batch_size, meanings=meanings)
        _, self._owner, self._counts = np.unique(
            np.asarray(meaning_of), return_inverse=True, return_counts=True
        )
        self._each, self._meanings, self._seed = batch_size // meanings, meanings, seed
        self._groups = self._counts // self._each
        self.count = most_batches(self._groups, meanings)
        self._begin()

    def of_epoch(self, epoch: int) -> list[np.ndarray]:
        """Positions of each batch, in random order. Earlier epochs are gone through again."""
        if epoch < self._next:
            self._begin()
        batches: list[np.ndarray] = []
        while self._next <= epoch:
            batches = self._draw(np.random.default_rng([self._seed, self._next]))
            self._used[np.concatenate(batches)] += 1
            self._next += 1
        return batches

    def _begin(self) -> None:
        self._next, self._used = 0, np.zeros(len(self._owner), dtype=np.int64)

    def _draw(self, rng: np.random.Generator) -> list[np.ndarray]:
        left = self._shares(rng)
        pools = self._pools(left, rng)
        batches = []
        for rest in range(self.count, 0, -1):
            # Classes that every batch to come must have, then others by what is left of them.
            with np.errstate(divide="ignore"):
                keys = rng.exponential(size=len(left)) / left
            keys[left == rest] = -1
            chosen = np.argsort(keys, kind="stable")[: self._meanings]
            left[chosen] -= 1
            parts = [pools[c][left[c] * self._each :][: self._each] for c in chosen]
            batches.append(rng.permutation(np.concatenate(parts)))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _shares(self, rng: np.random.Generator) -> np.ndarray:
        """(C,) groups of each class in this epoch: ``count`` x ``meanings`` together."""
        groups = np.minimum(self._groups, self.count)
        spare = groups.sum() - self.count * self._meanings
        used = np.bincount(self._owner, weights=self._used) / self._counts
        groups[np.lexsort((rng.random(len(groups)), -used))[:spare]] -= 1
        return groups

    def _pools(self, groups: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Of each class the positions of its groups, the least used ones, shuffled."""
        order = np.lexsort((rng.random(len(self._owner)), self._used, self._owner))
        first = np.cumsum(self._counts) - self._counts
        return [
            rng.permutation(order[at : at + count * self._each])
            for at, count in zip(first, groups, strict=True)
        ]


def most_batches(groups: np.ndarray, meanings: int) -> int:
    """The largest B with sum_c min(groups_c, B) >= B meanings."""
    bound = int(groups.sum()) // meanings
    while (fitting := int(np.minimum(groups, bound).sum()) // meanings) < bound:
        bound = fitting
    return bound


def refuse_misfit(meaning_of: Sequence[str], *, batch_size: int, meanings: int) -> None:
    """UserError: fewer classes than a batch has, or a class with fewer recordings than it needs."""
    names, counts = np.unique(np.asarray(meaning_of), return_counts=True)
    setting, each = f"training.batch.meanings={meanings}", batch_size // meanings
    if len(names) < meanings:
        fitting = [m for m in range(2, len(names) + 1) if batch_size % m == 0]
        most = f"meanings={fitting[-1]}" if fitting else "another training.batch_size, or no batch"
        raise UserError(
            f"{setting}: the training recordings have only {len(names)} classes; set {most}."
        )
    few = np.flatnonzero(counts < each)
    if len(few):
        worst = int(few[counts[few].argmin()])
        more = f" ({len(few)} of {len(names)} classes have too few)" if len(few) > 1 else ""
        raise UserError(
            f"{setting} with training.batch_size={batch_size}: a batch needs {each} recordings of "
            f"each of its classes, and {str(names[worst])!r} has {counts[worst]} for training"
            f"{more}; set at most training.batch_size={meanings * counts[worst]}."
        )


def divisors_near(whole: int, value: int) -> list[int]:
    """The nearest divisors of ``whole`` below and above ``value``, from 2 on."""
    divisors = [d for d in range(2, whole + 1) if whole % d == 0]
    below, above = [d for d in divisors if d < value], [d for d in divisors if d > value]
    return [*below[-1:], *above[:1]]
