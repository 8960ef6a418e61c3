"""Transcripts on disk: a signal is transcribed once, whatever dataset it stands in."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.digests import crc32, memory_of
from multimodal.encoders.transcriber import Transcriber
from multimodal.errors import UserError
from multimodal.files import write_atomically


class Transcripts:
    """``of(batch)`` gives the texts; only what is not known yet is transcribed.

    folder: holds ``<transcriber's fingerprint>.jsonl``, a line a signal: the digest of its samples,
    its text and a checksum. Damaged lines are dropped, and their signals transcribed again.
    Several processes may share the folder; a place that cannot be written costs time only.
    """

    def __init__(self, transcriber: Transcriber, folder: Path) -> None:
        self.transcriber = transcriber
        self.file = folder / f"{transcriber.fingerprint}.jsonl"
        self._known, damaged = _read(self.file)
        if damaged:
            with contextlib.suppress(UserError):
                write_atomically(self.file, _lines(self._known))

    def of(self, batch: Batch) -> list[str]:
        """One text a recording."""
        lengths = batch.lengths.tolist()
        keys = [_key(batch.inputs[i, 0, :n]) for i, n in enumerate(lengths)]
        rows = list({key: i for i, key in enumerate(keys) if key not in self._known}.values())
        if rows:
            lacking = torch.zeros_like(batch.lengths, dtype=torch.bool)
            lacking[rows] = True
            texts = self.transcriber.transcribe(batch.where(lacking))
            self._add({keys[i]: text for i, text in zip(sorted(rows), texts, strict=True)})
        return [self._known[key] for key in keys]

    def _add(self, new: Mapping[str, str]) -> None:
        self._known.update(new)
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(_lines(new))


def _key(samples: Tensor) -> str:
    return hashlib.sha256(memory_of(samples)).hexdigest()[:32]


def _lines(texts: Mapping[str, str]) -> str:
    rows = ({"signal": k, "text": t, "digest": crc32(k, t)} for k, t in texts.items())
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _read(file: Path) -> tuple[dict[str, str], bool]:
    """What the intact lines say, and whether there are others."""
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except OSError:
        return {}, False
    rows = [_row(line) for line in lines]
    return dict(row for row in rows if row), None in rows


def _row(line: bytes) -> tuple[str, str] | None:
    """(signal, text); None: not as it was written."""
    try:
        row = json.loads(line)
        key, text, digest = row["signal"], row["text"], row["digest"]
        return (key, text) if line.endswith(b"\n") and digest == crc32(key, text) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
