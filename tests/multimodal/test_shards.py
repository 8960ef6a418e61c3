"""Shards of recordings: damage that is found late, and files of earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from multimodal import digests
from tests.multimodal.signals_fakes import Fake, arrays_of, cache_of, naive

LENGTHS = [9, 1, 14, 3, 5, 8, 2, 11]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.safetensors"))


def test_only_what_a_damaged_shard_holds_is_decoded_again(tmp_path: Path) -> None:
    """Found late, in the middle of a run: by the first batch that needs it."""
    arrays, adapter = arrays_of(LENGTHS), Fake()
    first = cache_of(arrays, folder=tmp_path)
    first.ensure([0, 1, 2])
    first.ensure([3, 4])
    damaged = max(shards(tmp_path), key=lambda p: len(digests.open_tensors(p).tensors["rows"]))
    data = bytearray(damaged.read_bytes())
    data[-4 * 14 - 2] ^= 64  # of recording 2, before a margin of 14 steps
    damaged.unlink()
    damaged.write_bytes(data)
    cache = cache_of(arrays, adapter, folder=tmp_path)
    assert torch.equal(cache.gather([3, 1]).inputs, naive(arrays, [3, 1], -1))
    with pytest.warns(UserWarning, match=f"{damaged.name}: damaged; deleted"):
        batch = cache.gather([4, 2, 0])
    assert torch.equal(batch.inputs, naive(arrays, [4, 2, 0], -1))
    assert adapter.loaded == ["00000", "00002"]
    assert torch.equal(cache.gather(range(8)).inputs, naive(arrays, list(range(8)), -1))


def test_shards_of_earlier_versions_are_read(tmp_path: Path) -> None:
    arrays, adapter = arrays_of(LENGTHS), Fake()
    cache_of(arrays, folder=tmp_path).ensure([0, 1])
    (path,) = shards(tmp_path)
    tensors = digests.open_tensors(path).tensors
    save_file({k: v.clone() for k, v in tensors.items() if k != "digests"}, path)
    cache = cache_of(arrays, adapter, folder=tmp_path)
    assert torch.equal(cache.gather([1, 0]).inputs, naive(arrays, [1, 0], -1))
    assert adapter.loaded == []
