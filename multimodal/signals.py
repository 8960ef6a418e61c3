"""Decoded signals of a Manifest: each file is decoded once, batches are cut out of packed blocks.

Signals lie back to back, time axis first, in flat blocks (total, *rest): one growing block in
memory, or memory-mapped safetensors shards on disk. A batch is one indexed copy out of all
overlapping windows of the block, with no loop over recordings. Of a ``FeatureAdapter`` the blocks
hold what its front end prepares of the signals.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from multimodal.ahead import done_ahead
from multimodal.bars import bar
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.growing import Growing
from multimodal.modalities import Adapter
from multimodal.recordings import Manifest
from multimodal.shards import (
    UNKNOWN,
    Signals,
    Unwritten,
    alone,
    discard,
    new_shards,
    open_folder,
    open_signals,
    signal_digest,
)

SHARD_BYTES = 64 * 2**20
SHOWN_PROBLEMS = 10
NOT_DECODED, DAMAGED = -1, -2


class SignalCache:
    """Lazily decoded canonical signals, and batches of them.

    folder: None keeps the signals in memory (nothing is forgotten; see ``nbytes``); a folder
    keeps them in ``<folder>/<key>/shard-*.safetensors``, where key is a hash of the manifest's
    content and the adapter's fingerprint. Of several processes that share a folder one decodes at
    a time, the others read what it wrote. Each ``ensure`` that decodes anything writes at least one
    shard, so ensure whole experiences, not batches.
    Each recording is compared with its digest when it is first needed; damaged shards are deleted
    and remade. workers: decoding threads (None: one per CPU, at most 8). skip_damaged: remember
    recordings that cannot be decoded in ``damaged`` (row -> message) instead of raising. progress:
    show a transient bar for long decoding, if standard error is a terminal. Not thread-safe.
    """

    def __init__(
        self,
        manifest: Manifest,
        adapter: Adapter,
        *,
        folder: Path | None = None,
        workers: int | None = None,
        skip_damaged: bool = False,
        progress: bool = True,
    ) -> None:
        self.manifest, self.adapter = manifest, adapter
        self.workers = workers or min(8, os.cpu_count() or 1)
        self.skip_damaged, self.progress = skip_damaged, progress
        self.damaged: dict[int, str] = {}
        targets = manifest.targets if manifest.multi_label else manifest.labels
        self._labels = torch.from_numpy(targets)
        self._texts = None if manifest.texts is None else np.array(manifest.texts, dtype=object)
        # Row i of the manifest: steps [offset, offset + length) of block number ``block``; steps:
        # of the signal, which are others where features are held.
        self._block = np.full(len(manifest), NOT_DECODED, dtype=np.int64)
        self._offset, self._length, self._steps = np.zeros((3, len(manifest)), dtype=np.int64)
        self._held: Growing | None = None  # the block in memory
        self._blocks: list[Tensor] = []  # shards
        self._folder, self._seen = None, set[Path]()
        self._paths: list[Path] = []  # of the blocks, if they are shards
        self._digest = np.full(len(manifest), UNKNOWN, dtype=np.int64)  # if still to be compared
        if folder is not None:
            key = f"{manifest.content_hash}\0{manifest.files_hash}\0{adapter.fingerprint}"
            self._folder = open_folder(folder / hashlib.sha256(key.encode()).hexdigest()[:16])
            self._read_new_shards(self._folder)

    @property
    def nbytes(self) -> int:
        """Bytes of RAM that hold signals (memory-mapped shards count nothing)."""
        return 0 if self._held is None else self._held.nbytes

    def ensure(self, indices: ArrayLike) -> None:
        """Decode those rows that are not decoded yet, in ascending order of rows.

        Raises one UserError for all damaged recordings (the intact ones stay decoded), unless
        ``skip_damaged``.
        """
        if self._folder is not None:
            if len(self._missing(indices)):
                self._read_new_shards(self._folder)
            self._check(np.unique(np.asarray(indices, dtype=np.int64)))
        if not len(self._missing(indices)):
            return
        with alone(self._folder):
            if self._folder is not None:
                self._read_new_shards(self._folder)
            self._decode_all(self._missing(indices))

    def _decode_all(self, rows: np.ndarray) -> None:
        problems, shard = dict[int, str](), Unwritten()
        for row, signal in zip(rows.tolist(), self._decoded(rows), strict=True):
            if isinstance(signal, str):
                problems[row] = signal
            elif self._folder is None:
                self._hold(row, *self._prepared(signal))
            else:
                shard.add(row, *self._prepared(signal))
                if shard.nbytes >= SHARD_BYTES:
                    self._write(shard, self._folder)
                    shard = Unwritten()
        if self._folder is not None and shard.rows:
            self._write(shard, self._folder)
        if problems and not self.skip_damaged:
            raise UserError(_listed(list(problems.values())))
        self.damaged.update(problems)
        self._block[list(problems)] = DAMAGED

    def usable(self, indices: ArrayLike) -> np.ndarray:
        """Those of ``indices`` that can be decoded, in the given order; decodes what is missing."""
        self.ensure(indices)
        rows = np.asarray(indices, dtype=np.int64)
        return rows[self._block[rows] >= 0]

    def gather(self, indices: ArrayLike) -> Batch:
        """A Batch of N >= 1 rows in the given order, repeats allowed; decodes what is missing.

        lengths: steps along the adapter's length axis (1 for signals of fixed size). labels: (N,)
        int64, or (N, C) float32 (``Manifest.targets``) for multi-label data.
        Raises UserError for damaged rows, also with ``skip_damaged``.
        """
        self.ensure(indices)
        rows = np.asarray(indices, dtype=np.int64)
        blocks = self._block[rows]
        if blocks.min() < 0:
            bad = dict.fromkeys(rows[blocks < 0].tolist())
            raise UserError(_listed([self.damaged[row] for row in bad]))
        lengths = torch.from_numpy(self._length[rows])
        signals = self._windows(rows, blocks)
        _zero_tails(signals, lengths)
        if (axis := self.adapter.length_axis) is None:
            inputs = signals[:, 0]
        else:
            inputs = signals.movedim(1, axis + 1 if axis >= 0 else axis).contiguous()
        return replace(self.annotations(rows), inputs=inputs, lengths=lengths)

    def lengths(self, indices: ArrayLike) -> np.ndarray:
        """(N,) int64 steps of decoded signals, also where features are held."""
        return self._steps[np.asarray(indices, dtype=np.int64)]

    def annotations(self, indices: ArrayLike) -> Batch:
        """A Batch of N rows without their signals: inputs (N, 0), lengths 0; decodes nothing."""
        rows = np.array(indices, dtype=np.int64)
        index, lengths = torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.int64)
        texts = None if self._texts is None else tuple(self._texts[rows].tolist())
        return Batch(torch.empty(len(rows), 0), lengths, self._labels[index], index, texts)

    def _missing(self, indices: ArrayLike) -> np.ndarray:
        rows = np.unique(np.asarray(indices, dtype=np.int64))
        assert not len(rows) or 0 <= rows[0] <= rows[-1] < len(self.manifest), "no such row"
        return rows[self._block[rows] == NOT_DECODED]

    def _decoded(self, rows: np.ndarray) -> Iterator[Tensor | str]:
        """In the order of ``rows``: signals with the time axis first, or what is wrong."""
        with bar("decoding", len(rows), shown=self.progress) as advance:
            for signal in done_ahead(rows.tolist(), self._decode, workers=self.workers):
                yield signal
                del signal  # not two at once
                advance()

    def _decode(self, row: int) -> Tensor | str:
        recording, axis = self.manifest.recordings[row], self.adapter.length_axis
        try:
            signal = self.adapter.load(recording)
        except UserError as error:
            return str(error)
        # NumPy, because torch would start a team of threads in each of our threads.
        if signal.is_floating_point() and not np.isfinite(signal.numpy()).all():
            return f"{recording.where}: the signal has NaN or infinite values; replace it."
        assert signal.dtype == self.adapter.dtype, recording.where
        signal = signal[None] if axis is None else signal.movedim(axis, 0).contiguous()
        if signal.untyped_storage().nbytes() > signal.nbytes:  # a crop would hold the whole of it
            signal = torch.from_numpy(signal.numpy().copy())
        return signal

    def _prepared(self, signal: Tensor) -> tuple[Tensor, int]:
        """What is held of a signal, and its own steps."""
        # Here, not in the threads that decode, each of which would start torch's own team.
        prepare = getattr(self.adapter, "prepare", None)
        return (signal if prepare is None else prepare(signal)), len(signal)

    def _hold(self, row: int, held: Tensor, steps: int) -> None:
        """In memory."""
        if self._held is None:
            self._held = Growing(held.dtype, tuple(held.shape[1:]))
        self._block[row], self._offset[row] = 0, self._held.append(held)
        self._length[row], self._steps[row] = len(held), steps

    def _write(self, shard: Unwritten, folder: Path) -> None:
        written = shard.write(folder)
        self._read_new_shards(folder)
        if (self._block[written.rows.numpy()] < 0).any():  # another process has deleted it just now
            self._enter(written, len(self._blocks))
            self._blocks.append(written.signals)
            self._paths.append(folder)

    def _enter(self, shard: Signals, block: int) -> None:
        """Note where the signals of a shard lie, which stand back to back."""
        lengths = shard.lengths.numpy()
        row, new = shard.rows.numpy(), self._block[shard.rows.numpy()] < 0
        # Another process may have written the same row before.
        row = row[new]
        self._block[row], self._offset[row] = block, (np.cumsum(lengths) - lengths)[new]
        self._length[row], self._steps[row] = lengths[new], shard.steps.numpy()[new]
        self._digest[row] = shard.digests.numpy()[new]

    def _read_new_shards(self, folder: Path) -> None:
        """Map the shards that appeared in the folder; delete damaged ones, with a warning."""
        for path in new_shards(folder, self._seen):
            try:
                shard = open_signals(path, len(self.manifest), self.adapter.dtype)
            except FileNotFoundError:
                continue  # another process found it damaged
            if shard is None:
                discard(path)
                continue
            self._enter(shard, len(self._blocks))
            self._blocks.append(shard.signals)
            self._paths.append(path)

    def _check(self, rows: np.ndarray) -> None:
        """Compare recordings with their digests, each once.

        What a damaged shard holds is to be decoded again.
        """
        for row in rows[self._digest[rows] != UNKNOWN].tolist():
            block, offset, length = self._block[row], self._offset[row], self._length[row]
            if block == NOT_DECODED:  # of a shard that has just been found damaged
                continue
            if signal_digest(self._blocks[block][offset : offset + length]) != self._digest[row]:
                discard(self._paths[block])
                self._block[self._block == block] = NOT_DECODED
            self._digest[row] = UNKNOWN

    def _windows(self, rows: np.ndarray, blocks: np.ndarray) -> Tensor:
        """(N, longest, *rest): each row's steps, followed by whatever stands behind them."""
        lengths, offsets = self._length[rows], self._offset[rows]
        if self._held is not None:
            return _cut(self._held.steps, offsets, int(lengths.max()))
        if np.all(blocks == blocks[0]):
            return _cut(self._blocks[blocks[0]], offsets, int(lengths.max()))
        out = self._blocks[0].new_zeros(len(rows), lengths.max(), *self._blocks[0].shape[1:])
        for block in np.unique(blocks):
            here = np.flatnonzero(blocks == block)
            steps = int(lengths[here].max())
            out[torch.from_numpy(here), :steps] = _cut(self._blocks[block], offsets[here], steps)
        return out


def _cut(block: Tensor, offsets: np.ndarray, steps: int) -> Tensor:
    """(N, steps, *rest): copies of the windows of ``block`` that begin at ``offsets``."""
    assert int(offsets.max()) + steps <= len(block)
    shape = (len(block) - steps + 1, steps, *block.shape[1:])
    windows = block.as_strided(shape, (block.stride(0), *block.stride()))
    return windows.index_select(0, torch.from_numpy(offsets))


def _zero_tails(signals: Tensor, lengths: Tensor) -> None:
    """Zero signals (N, T, *rest) in place from each row's length on."""
    # Multiplying by windows of a step function is faster than a masked fill; all is finite.
    shortest, longest = int(lengths.min()), signals.shape[1]
    if width := longest - shortest:
        step = torch.cat([signals.new_ones(width), signals.new_zeros(width)])
        keep = step.as_strided((width + 1, width), (1, 1)).index_select(0, longest - lengths)
        signals[:, shortest:].mul_(keep.view(len(signals), width, *[1] * (signals.ndim - 2)))


def _listed(problems: list[str]) -> str:
    more = len(problems) - SHOWN_PROBLEMS
    return "\n".join(problems[:SHOWN_PROBLEMS] + [f"... and {more} more"] * (more > 0))
