"""SignalCache on disk: against the one in memory, two writers, and damage of every kind."""

from __future__ import annotations

import io
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from multimodal import digests
from multimodal.ahead import AHEAD
from multimodal.signals import SignalCache
from tests.multimodal.signals_fakes import Fake, arrays_of, cache_of, constant, manifest_of, naive

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

    def interrupted(tensors, path: Path, words) -> None:
        path.write_bytes(b"half a shard")
        raise KeyboardInterrupt

    cache = cache_of(arrays, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(digests, "save_file", interrupted)
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


def test_random_damage_changes_no_signal(tmp_path: Path) -> None:
    """Anywhere in the file: its header, its tables, its samples."""
    arrays = arrays_of(LENGTHS)
    cache_of(arrays, folder=tmp_path).ensure([0, 1])
    path = shards(tmp_path)[0]
    data, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        copy = bytearray(data)
        copy[generator.integers(len(data))] ^= generator.integers(1, 256)
        path.unlink(missing_ok=True)
        path.write_bytes(copy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = cache_of(arrays, folder=tmp_path).gather([1, 0])
        assert torch.equal(batch.inputs, naive(arrays, [1, 0], -1))
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
    ("long", "progress", "terminal", "shown"),
    [
        (True, True, True, True),
        (False, True, True, False),
        (True, False, True, False),
        (True, True, False, False),
    ],
)
def test_progress_bar(long, progress, terminal, shown, monkeypatch, capsys) -> None:
    monkeypatch.setattr("multimodal.bars.SECONDS", -1.0 if long else 60.0)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    manifest = manifest_of([constant(a) for a in arrays_of([3] * 10)])
    cache = SignalCache(manifest, Fake(), progress=progress)  # pyright: ignore[reportArgumentType]
    cache.ensure(range(10))
    assert ("decoding" in stream.getvalue()) == shown
    assert capsys.readouterr().out == ""


def test_workers_wait_for_whoever_takes_their_signals() -> None:
    """Else the memory of a slow writer grows with the dataset."""
    manifest = manifest_of([constant(a) for a in arrays_of([3] * 200)])
    cache = SignalCache(manifest, Fake(), workers=2, progress=False)  # pyright: ignore
    begun = []
    decode = cache._decode
    cache._decode = lambda row: begun.append(row) or decode(row)  # pyright: ignore
    signals = cache._decoded(np.arange(200))
    next(signals)
    time.sleep(0.2)
    assert len(begun) <= 2 * AHEAD + 1
    assert len(list(signals)) == 199


@pytest.mark.parametrize("name", ["r.hea", "r", "r.dat"])
def test_replaced_files_are_decoded_again(tmp_path: Path, name: str) -> None:
    """Of a WFDB record the samples lie beside the file that the recording names."""
    import os

    from multimodal.modalities.ecg import EcgConfig
    from multimodal.recordings import Manifest, Recording

    wfdb = pytest.importorskip("wfdb")

    def gathered(value: int) -> torch.Tensor:
        shape = {"fs": 250, "units": ["mV"], "sig_name": ["II"], "fmt": ["16"], "adc_gain": [1000]}
        samples = np.full((250, 1), value)
        wfdb.wrsamp("r", **shape, baseline=[0], d_signal=samples, write_dir=str(tmp_path))
        for file in tmp_path.glob("r.*"):
            os.utime(file, (1, 1))
        row = Recording("r", (0,), "train", path=tmp_path / name)
        table = Manifest("d", "ecg", ("u",), (row,), "1")
        return SignalCache(table, EcgConfig().build(), folder=tmp_path / "cache").gather([0]).inputs

    first, second = gathered(500), gathered(250)
    torch.testing.assert_close(second, first / 2)
    torch.testing.assert_close(gathered(500), first)
    assert len(shards(tmp_path / "cache")) == 2


def test_caches_that_share_a_folder_decode_each_recording_once(tmp_path: Path) -> None:
    arrays = arrays_of(LENGTHS)
    adapters = [Fake() for _ in range(4)]
    caches = [cache_of(arrays, adapter, folder=tmp_path) for adapter in adapters]
    rows = list(range(len(arrays)))
    threads = [threading.Thread(target=cache.ensure, args=(rows,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loaded = [name for adapter in adapters for name in adapter.loaded]
    assert sorted(loaded) == sorted(set(loaded))
    assert len(loaded) == len(arrays)
    for cache in caches:
        torch.testing.assert_close(cache.gather(rows).inputs, naive(arrays, rows, -1))
