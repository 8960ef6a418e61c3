"""SignalCache against pad_sequence, on disk against in memory, and with damage of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal import signals as module
from multimodal.errors import UserError
from multimodal.signals import SignalCache
from tests.multimodal.signals_fakes import (
    Fake,
    arrays_of,
    broken,
    cache_of,
    constant,
    manifest_of,
    naive,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_gather_equals_pad_sequence(data: st.DataObject, tmp_path_factory) -> None:
    shape, axis = data.draw(
        st.sampled_from([((1, -1), -1), ((3, -1), 1), ((-1, 2, 3), 0), ((2, -1, 3), -2)])
    )
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=12))
    dtype = data.draw(st.sampled_from([torch.float32, torch.uint8, torch.int16]))
    on_disk = data.draw(st.booleans())
    folder = tmp_path_factory.mktemp("cache") if on_disk else None
    arrays = arrays_of(lengths, shape)
    adapter = Fake(length_axis=axis, dtype=dtype)
    cache = cache_of(arrays, adapter, folder=folder, workers=2)
    row = st.integers(0, len(lengths) - 1)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            cache.ensure(data.draw(st.lists(row, max_size=6)))
        rows = data.draw(st.lists(row, min_size=1, max_size=10))
        batch = cache.gather(rows)
        expected = naive(arrays, rows, axis).to(dtype)
        assert batch.inputs.dtype == dtype
        assert batch.inputs.is_contiguous()
        torch.testing.assert_close(batch.inputs, expected, rtol=0, atol=0)
        assert batch.lengths.tolist() == [lengths[i] for i in rows]
        assert batch.labels.tolist() == [i % 3 for i in rows]
        assert batch.indices.tolist() == rows
        assert batch.texts is None
    assert len(adapter.loaded) == len(set(adapter.loaded))


def test_the_last_window_may_be_longer_than_what_follows() -> None:
    cache = cache_of(arrays_of([1000, 1, 2]))
    for row in (0, 2, 1):  # the shortest signal stands last in the block
        cache.ensure([row])
    batch = cache.gather([1, 0, 2])
    assert batch.inputs.shape == (3, 1, 1000)
    assert batch.inputs[0, 0, 1:].count_nonzero() == 0


def test_batches_do_not_share_memory_with_the_cache() -> None:
    arrays = arrays_of([5, 7])
    cache = cache_of(arrays)
    rows = np.array([1, 0])
    first = cache.gather(rows)
    for tensor in (first.inputs, first.lengths, first.labels, first.indices):
        tensor.zero_()
    second = cache.gather(np.array([0, 1]))
    torch.testing.assert_close(second.inputs, naive(arrays, [0, 1], -1))
    assert (second.lengths.tolist(), second.labels.tolist()) == ([5, 7], [0, 1])
    assert rows.tolist() == [1, 0]


def test_signals_of_fixed_size() -> None:
    arrays = arrays_of([0, 0, 0], (1, 4, 5))
    batch = cache_of(arrays, Fake(length_axis=None)).gather([2, 0, 2])
    np.testing.assert_array_equal(batch.inputs.numpy(), np.stack([arrays[i] for i in (2, 0, 2)]))
    assert batch.lengths.tolist() == [1, 1, 1]


def test_texts_and_several_labels() -> None:
    makers = [constant(a) for a in arrays_of([3, 3, 3])]
    manifest = manifest_of(makers, labels=[(0, 2), (), (1,)], texts=["x", "", "z"])
    batch = SignalCache(manifest, Fake()).gather([2, 0, 1])  # pyright: ignore[reportArgumentType]
    assert batch.texts == ("z", "x", "")
    assert batch.labels.tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert batch.labels.dtype == torch.float32


def test_memory_holds_what_is_decoded_and_no_more() -> None:
    arrays = arrays_of([10] * 200)
    cache = cache_of(arrays)
    assert cache.nbytes == 0
    for row in range(200):
        cache.ensure([row])
        assert cache.nbytes == (row + 1) * 10 * 4


def test_signals_longer_than_a_chunk_are_split(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 100)
    arrays = arrays_of([20] * 10)
    for folder, shards in ((None, 0), (tmp_path, 5)):
        cache = cache_of(arrays, folder=folder)
        batch = cache.gather(range(10))
        torch.testing.assert_close(batch.inputs, naive(arrays, list(range(10)), -1))
        assert len(list(tmp_path.glob("*/*"))) == shards


# Damage ---------------------------------------------------------------------------------------


def damaged_cache(bad: list[int], count: int, **options) -> tuple[SignalCache, Fake]:
    makers = [broken if i in bad else constant(a) for i, a in enumerate(arrays_of([4] * count))]
    adapter = Fake()
    return SignalCache(manifest_of(makers), adapter, **options), adapter  # pyright: ignore[reportArgumentType]


def test_all_damage_is_reported_at_once() -> None:
    cache, adapter = damaged_cache(list(range(2, 15)), 20)
    with pytest.raises(UserError) as caught:
        cache.ensure(range(20))
    lines = str(caught.value).split("\n")
    assert lines == ["broken.wav: truncated; copy it again."] * 10 + ["... and 3 more"]
    adapter.loaded.clear()
    assert cache.gather([0, 1, 19]).inputs.shape == (3, 1, 4)
    assert adapter.loaded == []  # the intact ones stayed
    with pytest.raises(UserError, match="truncated"):
        cache.gather([0, 5])


def test_damage_can_be_skipped() -> None:
    cache, adapter = damaged_cache([1, 3], 5, skip_damaged=True)
    assert cache.usable([4, 3, 0, 1, 4]).tolist() == [4, 0, 4]
    assert cache.damaged == dict.fromkeys([1, 3], "broken.wav: truncated; copy it again.")
    adapter.loaded.clear()
    cache.ensure([1, 3])
    assert adapter.loaded == []
    with pytest.raises(UserError, match=r"^broken\.wav: truncated; copy it again\.$"):
        cache.gather([0, 1, 1])
    assert cache.usable([]).tolist() == []


def test_nothing_but_damage() -> None:
    cache, _ = damaged_cache([0, 1], 2, skip_damaged=True)
    assert cache.usable([0, 1]).tolist() == []


def test_signals_with_nan_never_reach_a_batch() -> None:
    arrays = arrays_of([4, 4])
    arrays[1][0, 2] = np.nan
    with pytest.raises(UserError, match="00001: the signal has NaN"):
        cache_of(arrays).ensure([0, 1])


def test_faults_of_ours_are_not_hidden() -> None:
    def fault() -> np.ndarray:
        raise ZeroDivisionError

    cache = SignalCache(manifest_of([fault]), Fake(), skip_damaged=True)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ZeroDivisionError):
        cache.ensure([0])
    with pytest.raises(AssertionError, match="no such row"):
        cache.ensure([-1])
