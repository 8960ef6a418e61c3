"""SignalCache against pad_sequence, on disk against in memory, and with damage of every kind."""

from __future__ import annotations

import io
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from multimodal import signals as module
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache


@dataclass
class Fake:
    """Canonical (2, T) or (1, T) signals from recordings' own arrays; counts what it loads."""

    length_axis: int | None = -1
    dtype: torch.dtype = torch.float32
    fingerprint: str = "fake"
    channels: int = 1
    loaded: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, recording: Recording) -> Tensor:
        with self.lock:
            self.loaded.append(recording.uid)
        assert recording.make is not None
        return torch.from_numpy(recording.make()).to(self.dtype)

    def front_end(self) -> nn.Module:
        raise NotImplementedError

    def describe(self, class_name: str) -> list[str]:
        return [class_name]


def broken() -> np.ndarray:
    raise UserError("broken.wav: truncated; copy it again.")


def manifest_of(makers: list[Callable[[], np.ndarray]], labels=None, texts=None) -> Manifest:
    rows = [
        Recording(
            f"{i:05d}",
            (i % 3,) if labels is None else labels[i],
            "train",
            make=make,
            text="" if texts is None else texts[i],
        )
        for i, make in enumerate(makers)
    ]
    return Manifest("fake", "fake", ("a", "b", "c"), tuple(rows), "1")


def constant(array: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: array


def arrays_of(lengths: list[int], shape: tuple[int, ...] = (1, -1)) -> list[np.ndarray]:
    """Signals of the given shape, -1 standing for each length; no zero among the samples."""
    generator = np.random.default_rng(0)
    return [
        generator.integers(1, 100, [n if d == -1 else d for d in shape]).astype(np.float32)
        for n in lengths
    ]


def cache_of(arrays: list[np.ndarray], adapter: Fake | None = None, **options) -> SignalCache:
    manifest = manifest_of([constant(a) for a in arrays])
    return SignalCache(manifest, adapter or Fake(), progress=False, **options)  # pyright: ignore[reportArgumentType]


def naive(arrays: list[np.ndarray], rows: list[int], axis: int) -> Tensor:
    signals = [torch.from_numpy(arrays[i]).movedim(axis, 0) for i in rows]
    padded = pad_sequence(signals, batch_first=True)
    return padded.movedim(1, axis if axis < 0 else axis + 1)


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


def test_memory_grows_by_doubling_and_is_reported() -> None:
    arrays = arrays_of([10] * 200)
    cache = cache_of(arrays)
    assert cache.nbytes == 0
    sizes = set()
    for row in range(200):
        cache.ensure([row])
        sizes.add(cache.nbytes)
    assert 200 * 10 * 4 <= cache.nbytes <= 2 * 200 * 10 * 4
    assert len(sizes) < 12


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


# Disk -----------------------------------------------------------------------------------------

LENGTHS = [9, 1, 14, 3, 5, 8, 2, 11]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.safetensors"))


def test_disk_equals_memory_and_reopens_without_decoding(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    memory, disk = cache_of(arrays), cache_of(arrays, folder=tmp_path)
    disk.ensure([0, 3, 5])
    disk.ensure([1, 2])
    rows = [5, 1, 5, 0, 7, 2, 4]
    torch.testing.assert_close(disk.gather(rows).inputs, memory.gather(rows).inputs)
    assert disk.nbytes == 0
    assert len(shards(tmp_path)) == 3
    adapter = Fake()
    reopened = cache_of(arrays, adapter, folder=tmp_path)
    torch.testing.assert_close(reopened.gather(rows).inputs, memory.gather(rows).inputs)
    assert adapter.loaded == []


def test_another_manifest_or_adapter_has_another_folder(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    cache_of(arrays, folder=tmp_path).ensure([0])
    other = Fake(fingerprint="other")
    cache_of(arrays, other, folder=tmp_path).ensure([0])
    shorter = Fake()
    cache_of(arrays[:3], shorter, folder=tmp_path).ensure([0])
    assert other.loaded == shorter.loaded == ["00000"]
    assert len(list(tmp_path.iterdir())) == 3


def test_two_caches_on_one_folder(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    adapters = Fake(), Fake()
    first, second = (cache_of(arrays, a, folder=tmp_path) for a in adapters)
    first.ensure([0, 1, 2])
    second.ensure([2, 3])
    assert adapters[1].loaded == ["00003"]  # written by the first in the meantime
    rows = [3, 2, 0]
    torch.testing.assert_close(second.gather(rows).inputs, first.gather(rows).inputs)
    assert adapters[0].loaded == ["00000", "00001", "00002"]


def test_both_wrote_the_same_row(tmp_path: Path, monkeypatch) -> None:
    arrays = arrays_of(LENGTHS)
    first, second = (cache_of(arrays, folder=tmp_path) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(second, "_read_new_shards", lambda folder: None)
        first.ensure([0, 1])
        second.ensure([1, 2])
    assert len(shards(tmp_path)) == 2
    for cache in (first, second, cache_of(arrays, folder=tmp_path)):
        expected = naive(arrays, [2, 1, 0, 1], -1)
        torch.testing.assert_close(cache.gather([2, 1, 0, 1]).inputs, expected)


def test_the_first_of_two_shards_wins(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    cache_of(arrays, folder=tmp_path).ensure([0])
    folder = shards(tmp_path)[0].parent
    shards(tmp_path)[0].unlink()
    for name, value in (("b", 2.0), ("a", 1.0)):
        tensors = {"rows": torch.tensor([0]), "lengths": torch.tensor([3])}
        tensors["signals"] = torch.full((6, 1), value)
        save_file(tensors, folder / f"shard-{name}.safetensors")
    assert cache_of(arrays, folder=tmp_path).gather([0]).inputs.tolist() == [[[1.0, 1.0, 1.0]]]


def test_several_writers_at_the_same_time(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    caches = [cache_of(arrays, folder=tmp_path) for _ in range(4)]
    threads = [
        threading.Thread(target=cache.gather, args=(range(i, i + 4),))
        for i, cache in enumerate(caches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    adapter = Fake()
    inputs = cache_of(arrays, adapter, folder=tmp_path).gather(range(7)).inputs
    torch.testing.assert_close(inputs, naive(arrays, list(range(7)), -1))
    assert adapter.loaded == []


def test_interrupted_writing_leaves_no_damage(tmp_path: Path, monkeypatch) -> None:
    arrays = arrays_of(LENGTHS)

    def interrupted(tensors, path: Path) -> None:
        path.write_bytes(b"half a shard")
        raise KeyboardInterrupt

    cache = cache_of(arrays, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.ensure([0, 1])
    assert list(tmp_path.glob("*/*")) == []
    torch.testing.assert_close(cache.gather([0, 1]).inputs, naive(arrays, [0, 1], -1))


def test_part_files_of_killed_processes_are_ignored(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    cache_of(arrays, folder=tmp_path).ensure([0])
    (shards(tmp_path)[0].parent / ".shard-0.safetensors.part").write_bytes(b"half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache_of(arrays, folder=tmp_path).gather([0, 1])


def flip_header(data: bytes) -> bytes:
    return data[:8] + b"?" + data[9:]


def other_rows(data: bytes) -> bytes:
    """The int64 table of rows [0, 1] (or what else equals it) -> a row that does not exist."""
    table = np.array([0, 1], "<i8").tobytes()
    assert data.count(table) == 1
    return data.replace(table, np.array([0, 99], "<i8").tobytes())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:4],
        lambda data: b"",
        lambda data: data + b"more",
        lambda data: data.replace(b'"rows"', b'"ROWS"'),
        flip_header,
        other_rows,
    ],
    ids=["1 byte", "half", "4 bytes", "empty", "longer", "name", "header", "rows"],
)
def test_damaged_shards_are_remade(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    arrays = arrays_of(LENGTHS)
    cache_of(arrays, folder=tmp_path).ensure([0, 1])
    path = shards(tmp_path)[0]
    data = path.read_bytes()
    path.unlink()  # not in place: the first cache's map would change
    path.write_bytes(damage(data))
    adapter = Fake()
    with pytest.warns(UserWarning, match=f"{path.name}: damaged; deleted, will be remade"):
        cache = cache_of(arrays, adapter, folder=tmp_path)
    assert not path.exists()
    torch.testing.assert_close(cache.gather([1, 0]).inputs, naive(arrays, [1, 0], -1))
    assert adapter.loaded == ["00000", "00001"]


def test_random_damage_never_crashes(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    cache_of(arrays, folder=tmp_path).ensure([0, 1])
    path = shards(tmp_path)[0]
    data, generator = path.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(200):
        copy = bytearray(data)
        copy[generator.integers(header)] = generator.integers(256)
        path.unlink(missing_ok=True)
        path.write_bytes(copy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = cache_of(arrays, folder=tmp_path).gather([1, 0])
        assert batch.inputs.shape == (2, 1, 9)
        for extra in shards(tmp_path):
            extra.unlink()


def resident() -> int:
    """Bytes of this process that are in RAM."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_shards_are_mapped_not_read(tmp_path: Path) -> None:
    arrays = [np.ones((1, 10_000_000), np.float32), np.ones((1, 10), np.float32)]
    cache_of(arrays, folder=tmp_path).ensure([0, 1])
    before = resident()
    cache = cache_of(arrays, Fake(), folder=tmp_path)
    assert cache.gather([1]).inputs.sum() == 10
    assert resident() - before < 8e6  # of the shard's 80 MB
    assert cache.gather([0]).inputs.sum() == 10_000_000
    assert resident() - before > 3e7  # the measure can fail


# Progress -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("count", "progress", "terminal", "shown"),
    [
        (300, True, True, True),
        (10, True, True, False),
        (300, False, True, False),
        (300, True, False, False),
    ],
)
def test_progress_bar(count, progress, terminal, shown, monkeypatch, capsys) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    manifest = manifest_of([constant(a) for a in arrays_of([3] * count)])
    cache = SignalCache(manifest, Fake(), progress=progress)  # pyright: ignore[reportArgumentType]
    cache.ensure(range(count))
    assert ("decoding" in stream.getvalue()) == shown
    assert capsys.readouterr().out == ""
