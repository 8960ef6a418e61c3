"""Batches of recordings of like length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.loader import SPREAD, Loader, like_lengths


@given(st.lists(st.integers(0, 50_000), max_size=80), st.integers(1, 20))
def test_every_place_stands_in_one_batch_of_like_lengths(lengths, size) -> None:
    known = np.array(lengths, dtype=np.int64)
    parts = like_lengths(known, size)
    assert sorted(np.concatenate([*parts, np.empty(0, np.int64)]).tolist()) == [*range(len(known))]
    for part in parts:
        assert 1 <= len(part) <= size
        assert known[part].max() <= SPREAD * known[part].min()


@pytest.mark.parametrize("length", [0, 1, 16_000])
def test_equal_lengths_are_read_as_ever(length) -> None:
    loader, rows = Loader(lambda rows: rows, "cpu"), np.array([4, 2, 9, 7, 0])
    alike = [b.tolist() for b in loader.alike(rows, 2, np.full(5, length))]
    assert alike == [b.tolist() for b in loader.batches(rows, 2)] == [[4, 2], [9, 7], [0]]
