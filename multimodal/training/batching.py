"""The order of an epoch: batches of recordings of similar length, in random order."""

from __future__ import annotations

import numpy as np

BUCKET_BATCHES = 8  # recordings of so many batches are sorted by length together


def epoch_batches(
    lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, multiple: int = 1
) -> list[np.ndarray]:
    """Positions (0 to N - 1) of each batch; a pure function of its arguments.

    lengths: (N,). Recordings are shuffled, sorted by length within pools of BUCKET_BATCHES batches
    (padding then costs little, and batches stay random), cut, and the batches shuffled. With equal
    lengths the sort changes nothing. The shorter batch at the end is cut to a multiple of
    ``multiple`` (processes), and left out below two recordings a process: a contrastive batch of
    one has no negatives. So an epoch has every position once, but for those.
    """
    rng = np.random.default_rng([seed, epoch])
    order, pool = rng.permutation(len(lengths)), batch_size * BUCKET_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    batches = [b[: len(b) // multiple * multiple] for b in batches]
    batches = [b for b in batches if len(b) >= 2 * multiple]
    return [batches[i] for i in rng.permutation(len(batches))]


def count_batches(count: int, batch_size: int, *, multiple: int = 1) -> int:
    """How many ``epoch_batches`` makes of so many recordings."""
    last = count % batch_size
    return count // batch_size + (last // multiple * multiple >= 2 * multiple)
