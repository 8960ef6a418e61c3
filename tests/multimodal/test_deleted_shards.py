"""SignalCache on disk while other processes delete what it uses."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal import digests
from multimodal import shards as shards_module
from tests.multimodal.signals_fakes import Fake, arrays_of, cache_of

LENGTHS = [9, 1, 14, 3, 5, 8, 2, 11]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.safetensors"))


def test_a_shard_that_goes_between_being_opened_and_mapped(tmp_path: Path, monkeypatch) -> None:
    """safetensors opens a file by its name twice."""
    arrays = arrays_of(LENGTHS)
    cache_of(arrays, folder=tmp_path).ensure(range(8))
    keep = digests.safe_open

    @contextlib.contextmanager
    def deleted(path, *args):
        with keep(path, *args):
            Path(path).unlink()
            raise RuntimeError(f"unable to open file <{path}> in read-only mode: No such file")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(digests, "safe_open", deleted)
        adapter = Fake()
        cache = cache_of(arrays, adapter, folder=tmp_path)
    torch.testing.assert_close(
        cache.gather(range(8)).inputs, cache_of(arrays).gather(range(8)).inputs
    )
    assert len(adapter.loaded) == 8


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_shard_that_goes_as_soon_as_it_is_written(
    tmp_path: Path, monkeypatch, whole_folder: bool
) -> None:
    arrays = arrays_of(LENGTHS)
    keep = shards_module.Unwritten.write

    def write(self, folder: Path) -> shards_module.Signals:
        written = keep(self, folder)
        if whole_folder:
            shutil.rmtree(folder)
        for path in folder.glob("shard-*"):
            path.unlink()
        return written

    monkeypatch.setattr(shards_module.Unwritten, "write", write)
    adapter = Fake()
    cache = cache_of(arrays, adapter, folder=tmp_path)
    for rows in ([0, 3], range(8), [7, 1]):
        torch.testing.assert_close(cache.gather(rows).inputs, cache_of(arrays).gather(rows).inputs)
    assert len(adapter.loaded) == 8


def _use(path: str, seed: int) -> None:
    """Fill caches on one folder and delete what is there, over and over."""
    arrays, generator = arrays_of(LENGTHS), np.random.default_rng(seed)
    expected = cache_of(arrays).gather(range(8)).inputs
    for _ in range(60):
        cache = cache_of(arrays, folder=Path(path))
        cache.ensure(generator.permutation(8)[:4])
        for shard in shards(Path(path)):
            if generator.random() < 0.5:
                shard.unlink(missing_ok=True)
        assert torch.equal(cache.gather(range(8)).inputs, expected)


def test_processes_that_delete_each_others_shards_go_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    users = [context.Process(target=_use, args=(str(tmp_path), s)) for s in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert [user.exitcode for user in users] == [0, 0, 0, 0]
