"""Embeddings of a frozen tower: each recording is embedded once, batches are cut out of the cache.

Embeddings lie in one table in memory, or in memory-mapped safetensors shards on disk. Recordings
of a stream are always embedded in the same blocks of neighbours, whoever asks for which of them, so
a cached embedding is the same number, bit for bit on a CPU, whatever was cached before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from multimodal.bars import bar
from multimodal.batch import Batch
from multimodal.digests import memory_of
from multimodal.loader import Loader, Signals
from multimodal.shards import alone, discard, new_shard, new_shards, open_embeddings, open_folder

BLOCK = 64  # rows embedded together
SHARD_BLOCKS = 64  # at most, of one shard: what an interruption may lose
MISSING = -1


class EmbeddingCache:
    """``gather(rows)`` gives Batches with ``embeddings`` and without signals.

    tower: front end and encoder, frozen and deterministic (it is called in evaluation mode).
    rows: all that may be asked for, those of a stream; nothing else is decoded. settings: what the
    tower and the canonical signals were made with, as plain data; the key is a hash of it, of the
    rows, of every weight and buffer, of the dataset's content and files, and of the dtype.
    folder: None keeps the embeddings in memory, a folder in ``<folder>/<key>/``; several processes
    may share it, and damaged shards (their checksums are tested) are deleted and remade. device:
    where the tower lives. A damaged recording raises its UserError. Not thread-safe.
    """

    def __init__(
        self,
        signals: Signals,
        front_end: nn.Module,
        encoder: nn.Module,
        *,
        rows: ArrayLike,
        settings: object,
        folder: Path | None = None,
        device: torch.device | str = "cpu",
        progress: bool = True,
    ) -> None:
        self.signals, self.front_end, self.encoder = signals, front_end, encoder
        self.device, self.progress = torch.device(device), progress
        self.rows = np.unique(np.asarray(rows, dtype=np.int64))
        self.key = cache_key(signals, front_end, encoder, [settings, self.rows.tolist()])
        count = len(signals.manifest)
        # Row i of the manifest: row ``_place[i]`` of shard number ``_shard[i]``.
        self._shard, self._place = np.full((2, count), MISSING, dtype=np.int64)
        self._shards: list[Tensor] = []
        self._folder, self._seen = None, set[Path]()
        if folder is not None:
            self._folder = open_folder(folder / self.key)
            self._read_new_shards(self._folder)

    def ensure(self, indices: ArrayLike) -> None:
        """Embed what is missing of these rows, with a bar where that takes long."""
        if self._folder is not None and len(self._missing(indices)):
            self._read_new_shards(self._folder)
        if not len(self._missing(indices)):
            return
        with alone(self._folder):
            if self._folder is not None:
                self._read_new_shards(self._folder)
            self._embed_all(self._missing(indices))

    def _embed_all(self, missing: np.ndarray) -> None:
        assert np.isin(missing, self.rows).all(), "a row outside the stream"
        blocks = np.unique(np.searchsorted(self.rows, missing) // BLOCK)
        with bar("embedding", len(blocks), shown=self.progress) as advance:
            for start in range(0, len(blocks), SHARD_BLOCKS):
                self._store([self._embed(int(b), advance) for b in blocks[start:][:SHARD_BLOCKS]])

    def gather(self, indices: ArrayLike) -> Batch:
        """A Batch of N >= 1 rows in the given order, embeddings (N, D) on the CPU."""
        rows = np.asarray(indices, dtype=np.int64)
        self.ensure(rows)
        batch = self.signals.annotations(rows)
        shards, places = self._shard[rows], self._place[rows]
        if (shards == shards[0]).all():
            found = self._shards[shards[0]][torch.from_numpy(places)]
        else:
            found = torch.empty(len(rows), self._shards[0].shape[1], dtype=self._shards[0].dtype)
            for shard in np.unique(shards):
                here = np.flatnonzero(shards == shard)
                found[here] = self._shards[shard][torch.from_numpy(places[here])]
        return replace(batch, embeddings=found)

    def _missing(self, indices: ArrayLike) -> np.ndarray:
        rows = np.unique(np.asarray(indices, dtype=np.int64))
        return rows[self._shard[rows] == MISSING]

    @torch.no_grad()
    def _embed(self, block: int, advance: Callable[[], None]) -> tuple[np.ndarray, Tensor]:
        """(rows, embeddings (n, D)) of a block."""
        rows = self.rows[block * BLOCK : (block + 1) * BLOCK]
        modes = {m: m.training for part in (self.front_end, self.encoder) for m in part.modules()}
        self.front_end.eval()
        self.encoder.eval()
        features = self.front_end(Loader(self.signals.gather, self.device).load(rows))
        pooled = self.encoder(features.values, features.lengths).pooled.cpu()
        for module, mode in modes.items():
            module.training = mode
        advance()
        return rows, pooled

    def _store(self, parts: list[tuple[np.ndarray, Tensor]]) -> None:
        rows, embeddings = np.concatenate([r for r, _ in parts]), torch.cat([e for _, e in parts])
        if self._folder is None:
            self._remember(rows, embeddings)
        else:
            new_shard(self._folder, {"rows": torch.from_numpy(rows), "embeddings": embeddings})
            self._read_new_shards(self._folder)
            if (self._shard[rows] == MISSING).any():  # another process has deleted it just now
                self._enter(rows, embeddings)

    def _enter(self, rows: np.ndarray, embeddings: Tensor) -> None:
        self._shard[rows], self._place[rows] = len(self._shards), np.arange(len(rows))
        self._shards.append(embeddings)

    def _remember(self, rows: np.ndarray, embeddings: Tensor) -> None:
        if not self._shards:
            count = len(self.signals.manifest)
            self._shards = [torch.zeros(count, embeddings.shape[1], dtype=embeddings.dtype)]
        self._shards[0][torch.from_numpy(rows)] = embeddings
        self._shard[rows], self._place[rows] = 0, rows

    def _read_new_shards(self, folder: Path) -> None:
        for path in new_shards(folder, self._seen):
            try:
                shard = open_embeddings(path, len(self.signals.manifest))
            except FileNotFoundError:
                continue
            if shard is None:
                discard(path)
            else:
                self._enter(*shard)


def cache_key(signals: Signals, front_end: nn.Module, encoder: nn.Module, settings: object) -> str:
    """16 hex digits: equal where, and only where, the embeddings are."""
    manifest, digest = signals.manifest, hashlib.sha256()
    plain = [json.dumps(settings, sort_keys=True), signals.adapter.fingerprint]
    digest.update("\0".join([*plain, manifest.content_hash, manifest.files_hash]).encode())
    for part in (front_end, encoder):
        digest.update(repr(part).encode())
        # Buffers that are not saved (filter banks, means) count as much as weights.
        for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(memory_of(tensor))
    return digest.hexdigest()[:16]
