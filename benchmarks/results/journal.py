"""Journal: a run's ``metrics.jsonl``, the source of truth for its step metrics.

Every line ends with the CRC-32 of what stands before it; earlier versions wrote none.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from multimodal.digests import DamagedFile, crc32
from multimodal.errors import UserError
from multimodal.files import writing

JOURNAL_FILE = "metrics.jsonl"
_READ_BYTES = 1 << 20  # bounds the memory of a reader that starts far behind
_SEAL = b',"crc32":"'


class Line(NamedTuple):
    """What one ``write`` left: step, milliseconds since the epoch, metric name -> value."""

    step: int
    time: int
    metrics: dict[str, float]


class Journal:
    """Append-only file of one JSON object a line, ``{"step": 3, "time": 1.., "metrics": {..},
    "crc32": ".."}``.

    NaN and infinities are kept as the strings "nan", "inf" and "-inf", so that every line is
    strict JSON. One thread may write while others read: readers see complete lines only.
    Nothing is made or changed on disk before the first ``write`` or ``truncate``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._dropped = deque[Line]()

    def write(self, metrics: dict[str, float], step: int) -> None:
        """Append one line; it reaches the file at the next ``flush`` or when the buffer is full."""
        values = {k: float(v) for k, v in metrics.items()}
        strict = {k: v if math.isfinite(v) else repr(v) for k, v in values.items()}
        line = {"step": int(step), "time": self._time(step, values), "metrics": strict}
        text = json.dumps(line, separators=(",", ":"), allow_nan=False).encode()
        with writing(self.path):
            file = self._file or self._open()
            file.write(text[:-1] + _SEAL + crc32(text).encode() + b'"}\n')

    def flush(self, *, durable: bool = False) -> int:
        """Hand every line to the operating system; the size in bytes, for the checkpoint.

        Lines then survive a killed process; durable: also a power cut. UserError: the disk refuses.
        """
        if self._file is not None:
            with writing(self.path):
                self._file.flush()
                if durable:
                    os.fsync(self._file.fileno())
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, offset: int) -> None:
        """Drop everything after ``offset`` (what ``flush`` returned at the last checkpoint).

        Exact resume writes the same lines again: they keep the times that they had, so that a
        store that has some of them already gets no second ones.
        UserError if the file is shorter: lines that the checkpoint counts on are gone.
        """
        size = self.flush()
        if size < offset:
            raise UserError(
                f"{self.path}: has {size} bytes, but its checkpoint was made at {offset}; restore "
                f"the file, or delete the run folder to start again."
            )
        self.close()
        if size > offset:
            self._dropped = deque(self._readable(offset))
            with writing(self.path):
                os.truncate(self.path, offset)

    def check(self, end: int) -> None:
        """DamagedFile unless lines as they were written end at byte ``end``."""
        at = 0
        if end and self.path.is_file():
            with self.path.open("rb") as file:
                while at < end and (text := file.readline()):
                    self._parse(text, at)
                    at += len(text)
        if at != end:
            raise DamagedFile(
                f"{self.path}: its checkpoint was made at byte {end}, where no line ends"
            )

    def read_from(self, offset: int) -> tuple[list[Line], int]:
        """Complete lines from byte ``offset`` on (about 1 MiB of them) and where they end.

        The offset comes back unchanged when there is no further complete line. UserError for a
        line that is not one of ours.
        """
        block, end = self._block(offset)
        return [self._parse(text, offset) for text in block.splitlines()], end

    def after_line(self, count: int) -> tuple[int, int]:
        """Byte offset after the first ``count`` lines, and how many of them the file lacks."""
        offset = 0
        while count > 0:
            block, end = self._block(offset)
            if end == offset:
                break
            lines = block.splitlines(keepends=True)[:count]
            offset += sum(map(len, lines))
            count -= len(lines)
        return offset, count

    def close(self) -> None:
        """Flush and close; a later ``write`` opens the file again."""
        file, self._file = self._file, None
        if file is not None:
            with writing(self.path):
                file.close()

    def _time(self, step: int, values: dict[str, float]) -> int:
        if self._dropped:
            line = self._dropped.popleft()
            if line.step == step and line.metrics.keys() == values.keys():
                return line.time
            self._dropped.clear()
        return time.time_ns() // 1_000_000

    def _readable(self, offset: int) -> Iterator[Line]:
        """Lines from byte ``offset`` on, up to a block with one that is damaged."""
        with contextlib.suppress(UserError):
            while True:
                lines, end = self.read_from(offset)
                if end == offset:
                    return
                yield from lines
                offset = end

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            # A killed process may have left half a line, which would spoil the next one.
            os.truncate(self.path, self.after_line(2**63)[0])
        self._file = self.path.open("ab")
        return self._file

    def _block(self, offset: int) -> tuple[bytes, int]:
        if not self.path.exists():
            return b"", offset
        with self.path.open("rb") as file:
            file.seek(offset)
            block = file.read(_READ_BYTES)
            if b"\n" not in block:
                block += file.readline()
        end = block.rfind(b"\n") + 1
        return block[:end], offset + end

    def _parse(self, text: bytes, offset: int) -> Line:
        body, seal, written = text.rstrip(b"\n").rpartition(_SEAL)
        try:
            if seal and written != crc32(body, "}").encode() + b'"}':
                raise ValueError
            line = json.loads(body + b"}" if seal else text)
            if line.keys() != {"step", "time", "metrics"}:
                raise ValueError
            metrics = {k: float(v) for k, v in line["metrics"].items()}
            return Line(int(line["step"]), int(line["time"]), metrics)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFile(
                f"{self.path}: after byte {offset}, {text[:60]!r} is not a line of this journal as "
                "it was written; restore the file."
            ) from error
