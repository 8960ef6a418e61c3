from __future__ import annotations

import multiprocessing
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from multimodal.batch import Batch, Encoded
from multimodal.encoders import cache as cache_module
from multimodal.encoders.cache import BLOCK, EmbeddingCache
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.toy import toy_manifest

ADAPTER = SpeechConfig().build()
MANIFEST = toy_manifest(num_classes=4, train=30, test=10)  # 160 rows: more than two blocks


class Tower(nn.Module):
    """Counts how many recordings it embeds; random in training mode."""

    width = 5

    def __init__(self, channels: int = 40, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear, self.embedded = nn.Linear(channels, self.width), 0
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        self.embedded += len(features)
        tokens = self.dropout(self.linear(features.transpose(1, 2)))
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        return Encoded(tokens, mask, (tokens * mask[..., None]).sum(1) / lengths[:, None])


def make(
    tower: Tower,
    folder: Path | None = None,
    manifest: Manifest = MANIFEST,
    rows: np.ndarray | None = None,
) -> EmbeddingCache:
    source = SignalCache(manifest, ADAPTER, progress=False)
    front_end = ADAPTER.front_end()
    rows = np.arange(len(manifest)) if rows is None else rows
    return EmbeddingCache(
        source, front_end, tower, rows=rows, settings={}, folder=folder, progress=False
    )


def direct(tower: Tower, rows: np.ndarray) -> Tensor:
    """Embeddings without the cache, each recording alone."""
    signals, front_end = SignalCache(MANIFEST, ADAPTER, progress=False), ADAPTER.front_end().eval()
    with torch.no_grad():
        features = [front_end(signals.gather([row])) for row in rows]
        return torch.cat([tower.eval()(f.values, f.lengths).pooled for f in features])


@pytest.fixture(params=["memory", "disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "disk" else None


def test_embeddings_are_the_towers_own_and_are_made_once(folder: Path | None) -> None:
    tower = Tower().train()
    cache = make(tower, folder)
    rows = np.array([7, 150, 3, 7, 70])
    batch = cache.gather(rows)
    assert batch.inputs.shape == (5, 0)
    assert batch.labels.tolist() == MANIFEST.labels[rows].tolist()
    assert batch.indices.tolist() == rows.tolist()
    made = tower.embedded
    assert made == 160  # three whole blocks
    assert batch.embeddings is not None
    assert torch.equal(cache.gather(rows).embeddings, batch.embeddings)  # type: ignore[arg-type]
    assert tower.embedded == made
    assert tower.dropout.training  # its mode is its own again
    torch.testing.assert_close(batch.embeddings, direct(tower, rows))


def test_an_embedding_does_not_depend_on_what_was_asked_for_before(folder: Path | None) -> None:
    first, second = make(Tower(), folder), make(Tower())
    some = first.gather([5]).embeddings
    everything = second.gather(np.arange(len(MANIFEST))).embeddings
    assert some is not None
    assert everything is not None
    assert torch.equal(some[0], everything[5])
    assert torch.equal(first.gather(np.arange(160)).embeddings, everything)  # type: ignore[arg-type]


def test_another_process_finds_what_was_written(tmp_path: Path) -> None:
    first = make(Tower(), tmp_path)
    first.ensure(np.arange(160))
    tower = Tower()
    again = make(tower, tmp_path)
    expected = first.gather(np.arange(160)).embeddings
    assert torch.equal(again.gather(np.arange(160)).embeddings, expected)  # type: ignore[arg-type]
    assert tower.embedded == 0


def _write(path: str, start: int) -> None:
    cache = make(Tower(), Path(path))
    for row in np.roll(np.arange(160), start):
        cache.ensure([row])


def test_two_writers_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(str(tmp_path), s)) for s in (0, 70)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    tower = Tower()
    both = make(tower, tmp_path).gather(np.arange(160)).embeddings
    alone = make(Tower()).gather(np.arange(160)).embeddings
    assert torch.equal(both, alone)  # type: ignore[arg-type]
    assert tower.embedded == 0
    assert not list(tmp_path.rglob("*.part"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    save_file({**load_file(path)}, path)  # right tensors, no checksum


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _foreign])
def test_damaged_shards_are_deleted_and_remade(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    expected = make(Tower(), tmp_path).gather(np.arange(160)).embeddings
    (shard,) = tmp_path.rglob("shard-*")
    damage(shard)
    tower = Tower()
    with pytest.warns(UserWarning, match="damaged; deleted"):
        cache = make(tower, tmp_path)
    assert not shard.exists()
    assert torch.equal(cache.gather(np.arange(160)).embeddings, expected)  # type: ignore[arg-type]
    assert tower.embedded == 160


def test_everything_that_changes_an_embedding_changes_the_key() -> None:
    tower = Tower()
    key = make(tower).key
    assert make(Tower()).key == key
    assert make(Tower(seed=1)).key != key
    assert make(tower, manifest=toy_manifest(num_classes=4, train=29, test=10)).key != key
    signals = SignalCache(MANIFEST, ADAPTER, progress=False)
    front_end, every = ADAPTER.front_end(), np.arange(len(MANIFEST))
    assert make(tower, rows=every[1:]).key != key
    assert EmbeddingCache(signals, front_end, tower, rows=every, settings={"a": 1}).key != key
    assert EmbeddingCache(signals, front_end, tower.double(), rows=every, settings={}).key != key
    with torch.no_grad():
        tower.float().linear.weight[0, 0] += 1e-6
    assert make(tower).key != key


def test_only_rows_of_the_stream_are_read(tmp_path: Path) -> None:
    recordings = [
        Recording(f"{i}", (0,), "train", make=lambda i=i: np.full((1, 800), i / 10, np.float32))
        for i in range(3)
    ]
    recordings.append(Recording("bad", (0,), "train", path=tmp_path / "missing.wav"))
    manifest = Manifest("m", "speech", ("a",), tuple(recordings), "1")
    cache = make(Tower(), manifest=manifest, rows=np.arange(3))
    assert cache.gather([0, 2]).embeddings is not None
    with pytest.raises(UserError, match=r"missing\.wav"):
        make(Tower(), manifest=manifest).gather([0])


def test_batches_with_embeddings_are_cut_joined_and_moved() -> None:
    batch = make(Tower()).gather([1, 2, 3])
    assert batch.embeddings is not None
    both = Batch.join(batch.rows(0, 1), batch.rows(1, 3)).to("cpu")
    assert both.embeddings is not None
    assert torch.equal(both.embeddings, batch.embeddings)


def test_a_block_is_smaller_than_the_toy_set() -> None:
    assert len(MANIFEST) > 2 * BLOCK
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(Tower()).ensure(np.arange(2))


def test_a_shard_that_another_process_deletes_at_once(tmp_path: Path, monkeypatch) -> None:
    keep = cache_module.new_shard

    def write(folder: Path, *args) -> None:
        keep(folder, *args)
        shutil.rmtree(folder)

    monkeypatch.setattr(cache_module, "new_shard", write)
    tower = Tower()
    found = make(tower, tmp_path)
    alone = make(Tower()).gather(np.arange(160)).embeddings
    for _ in range(2):
        assert torch.equal(found.gather(np.arange(160)).embeddings, alone)  # type: ignore[arg-type]
    assert tower.embedded == 160
