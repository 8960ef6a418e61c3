"""A disk that refuses: below one folder, after so many bytes, with an error of one's choice."""

from __future__ import annotations

import builtins
import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from multimodal import digests


class Disk:
    """``written`` counts bytes; when there are ``room`` of them, ``number`` is all that comes back.

    A disk that is full, or a quota, refuses what is written to files; one that becomes read-only
    (as Linux makes it after a fault) also what makes, moves and removes them. Files that
    safetensors writes, in Rust, count when they are written whole.
    """

    def __init__(self, place: Path, number: int, room: float = float("inf")) -> None:
        self.place, self.number, self.room, self.written = str(place.resolve()), number, room, 0

    def install(self, patch: pytest.MonkeyPatch) -> Disk:
        keep = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+") or not self._has(file):
                return keep(file, mode, *args, **kwargs)
            self._refuse_changes(file)
            raw = _File(self, os.fspath(file), mode.replace("b", "").replace("t", ""))
            if "b" in mode:
                return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            kwargs.pop("buffering", None)
            return io.TextIOWrapper(io.BufferedWriter(raw), *args[1:], **kwargs)

        save = digests.save_file

        def saved(tensors: Any, path: Path, words: Any) -> None:
            size = sum(t.nbytes for t in tensors.values())
            if self._has(path) and self.take(size) < size:
                words = f"{os.strerror(self.number)} (os error {self.number})"
                raise SafetensorError(f"Error while serializing: I/O error: {words}")
            save(tensors, path, words)

        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "open", opened)
        patch.setattr(digests, "save_file", saved)
        for name in ("mkdir", "replace", "rename", "unlink", "rmdir", "remove"):
            self._guard(patch, name)
        return self

    def take(self, size: int) -> int:
        """How much of it there is room for."""
        fits = int(min(size, max(0, self.room - self.written)))
        self.written += fits
        return fits

    def error(self, *names: Any) -> OSError:
        return OSError(self.number, os.strerror(self.number), *names)

    def _guard(self, patch: pytest.MonkeyPatch, name: str) -> None:
        keep = getattr(os, name)

        def guarded(path: Any, *args: Any, **kwargs: Any) -> Any:
            if self._has(path):
                self._refuse_changes(path)
            return keep(path, *args, **kwargs)

        patch.setattr(os, name, guarded)

    def _refuse_changes(self, path: Any) -> None:
        if self.number == errno.EROFS and self.written >= self.room:
            raise self.error(os.fspath(path))

    def _has(self, path: Any) -> bool:
        return os.path.abspath(os.fspath(path)).startswith(self.place)


class _File(io.FileIO):
    def __init__(self, disk: Disk, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self.disk = disk

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        fits = self.disk.take(len(view))
        if not fits and len(view):
            raise self.disk.error()
        return super().write(view[:fits])
