"""Shards: the files of a cache on disk, which several processes may share.

A shard has a name of its own and never changes. Whatever is damaged is deleted and made again.
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from multimodal.digests import DamagedFile, crc32, memory_of, open_tensors, write_tensors
from multimodal.files import sweep, writing
from multimodal.growing import Growing
from multimodal.locks import held

PATIENCE = 24 * 3600.0  # seconds that another process may take to fill a folder
UNKNOWN = -1  # no digest is known of a recording


class Signals(NamedTuple):
    """Recordings back to back: rows, lengths and CRC-32 (N,), signals (total, *rest), mapped.

    steps: (N,) of the signals themselves, where features of them are held.
    """

    rows: Tensor
    lengths: Tensor
    steps: Tensor
    digests: Tensor
    signals: Tensor


def open_folder(folder: Path) -> Path:
    """The folder itself, made if need be, without what killed processes left in it long ago."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, shared=None)
    return folder


@contextlib.contextmanager
def alone(folder: Path | None) -> Iterator[None]:
    """While no other process fills the folder: what one has made the others need not make again.

    Whoever deletes the folder meanwhile costs no more than that two make the same. None: the cache
    is in memory.
    """
    with contextlib.ExitStack() as stack:
        if folder is not None:
            words = f"{folder}: another process has been filling it for a day; end it, try again."
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(folder, words, patience=PATIENCE))
        yield


def new_shard(folder: Path, tensors: Mapping[str, Tensor], *, besides: Sequence[str] = ()) -> None:
    """A new file, complete as soon as it is visible. besides: as in ``write_tensors``.

    Other processes may delete it, and its folder, at any time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"shard-{uuid.uuid4().hex[:12]}.safetensors"
    write_tensors(folder / name, tensors, besides=besides)


def new_shards(folder: Path, seen: set[Path]) -> list[Path]:
    """Those that are not ``seen``, in order; they are from now on."""
    found = sorted(p for p in set(folder.glob("shard-*.safetensors")) - seen if not p.is_dir())
    seen.update(found)
    return found


def discard(path: Path) -> None:
    """Delete a damaged shard, with a warning."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    warnings.warn(f"{path}: damaged; deleted, will be remade", stacklevel=3)


class Unwritten:
    """A shard of recordings that stand back to back, as it is filled.

    Each has a digest of its own, so that what is gathered can be compared as it is gathered: a
    digest of the shard would read all of it.
    """

    def __init__(self) -> None:
        self.rows, self.lengths, self.steps = list[int](), list[int](), list[int]()
        self.digests = list[int]()
        self._held: Growing | None = None

    @property
    def nbytes(self) -> int:
        return 0 if self._held is None else self._held.nbytes

    def add(self, row: int, held: Tensor, steps: int) -> None:
        """held: (length, *rest) of a signal of so many steps."""
        if self._held is None:
            self._held = Growing(held.dtype, tuple(held.shape[1:]))
        self._held.append(held)
        self.rows.append(row)
        self.lengths.append(len(held))
        self.steps.append(steps)
        self.digests.append(signal_digest(held))

    def write(self, folder: Path) -> Signals:
        """What was written, as it is held in memory."""
        assert self._held is not None
        # Windows as long as the longest signal must not run over the end of the block.
        signals = self._held.steps[: self._held.used + self._held.spare]
        numbers = {name: getattr(self, name) for name in ("rows", "lengths", "steps", "digests")}
        tensors = {name: torch.tensor(values) for name, values in numbers.items()}
        new_shard(folder, {**tensors, "signals": signals}, besides=["signals"])
        return Signals(**tensors, signals=signals)


def signal_digest(signal: Tensor) -> int:
    return int(crc32(memory_of(signal)), 16)


def open_signals(path: Path, count: int, dtype: torch.dtype) -> Signals | None:
    """None if what it says of its recordings is damaged; the samples are not read.

    count: of the manifest's rows. FileNotFoundError if another process has deleted it.
    """
    try:
        shard = open_tensors(path)
        rows, lengths, signals = (shard.tensors[name] for name in ("rows", "lengths", "signals"))
    except (DamagedFile, KeyError):
        return None
    digests = shard.tensors.get("digests", torch.full_like(rows, UNKNOWN))
    steps = shard.tensors.get("steps", lengths)
    # Those of earlier versions have no digests at all.
    known = (shard.digest is None) == ("digests" not in shard.tensors)
    whole = (
        known
        and shard.whole(besides=["signals"])
        and (rows.dtype, lengths.dtype, signals.dtype) == (torch.int64, torch.int64, dtype)
        and rows.shape == lengths.shape == steps.shape == digests.shape == (rows.numel(),) != (0,)
        and 0 <= int(rows.min()) <= int(rows.max()) < count
        and int(lengths.min()) > 0
        and signals.ndim > 0
        and len(signals) >= int(lengths.sum() + lengths.max())
    )
    return Signals(rows, lengths, steps, digests, signals) if whole else None


def open_embeddings(path: Path, count: int) -> tuple[np.ndarray, Tensor] | None:
    """(rows, memory-mapped embeddings), or None if the shard is not what was written.

    count, errors: as in ``open_signals``.
    """
    try:
        shard = open_tensors(path)
        rows, embeddings = shard.tensors["rows"], shard.tensors["embeddings"]
    except (DamagedFile, KeyError):
        return None
    if shard.digest is None:  # as earlier versions wrote it
        found = int(crc32(memory_of(rows), memory_of(embeddings)), 16)
        whole = shard.words.get("crc32") == str(found)
    else:
        whole = shard.whole()
    if not whole:
        return None
    assert len(rows) == len(embeddings)
    assert int(rows.max()) < count
    return rows.numpy(), embeddings
