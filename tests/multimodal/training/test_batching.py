"""The order of an epoch: everything once, similar lengths together, the same for the same seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multimodal.training.batching import count_batches, epoch_batches

lengths = st.integers(1, 200).flatmap(lambda n: arrays(np.int64, n, elements=st.integers(1, 99)))


@settings(max_examples=80, deadline=None)
@given(lengths, st.integers(2, 40), st.integers(0, 3), st.integers(1, 4))
def test_every_position_once_but_for_a_batch_too_small(values, size, epoch, processes) -> None:
    size = size * processes
    batches = epoch_batches(values, size, seed=1, epoch=epoch, multiple=processes)
    used = np.concatenate([*batches, np.empty(0, int)]).astype(int)
    assert len(np.unique(used)) == len(used)
    assert len(values) - len(used) < 2 * processes
    assert len(batches) == count_batches(len(values), size, multiple=processes)
    assert all(len(b) % processes == 0 and 2 * processes <= len(b) <= size for b in batches)
    again = epoch_batches(values, size, seed=1, epoch=epoch, multiple=processes)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_batches_are_of_similar_length_and_in_random_order() -> None:
    values = np.random.default_rng(0).integers(1, 1000, 2048)
    batches = epoch_batches(values, 32, seed=1, epoch=0)
    spread = np.mean([np.ptp(values[b]) for b in batches])
    assert spread < 0.25 * np.ptp(values)
    first = [values[b].mean() for b in batches]
    assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.35
    other = epoch_batches(values, 32, seed=1, epoch=1)
    assert any((a != b).any() for a, b in zip(batches, other, strict=True))


def test_equal_lengths_are_a_plain_permutation() -> None:
    batches = epoch_batches(np.ones(64, int), 8, seed=3, epoch=0)
    assert not (np.diff(np.concatenate(batches)) == 1).all()
    assert np.mean([np.ptp(b) for b in batches]) > 30
