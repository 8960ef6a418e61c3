"""A folder that one process holds at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from multimodal.errors import UserError

PAUSE = 0.05  # seconds between two tries


class Held(UserError):
    """Another process has what is asked for, which it lets go of when it is done or killed."""


@contextlib.contextmanager
def held(file: Path, words: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock ``file``, or a folder itself; Held with ``words`` if another process does.

    patience: seconds to wait for it first. A killed process holds nothing.
    """
    deadline = time.monotonic() + patience
    with _opened(file) as opened:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise Held(words) from error
            time.sleep(PAUSE)
        yield


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    """The descriptor of a file, which is made, or of a folder."""
    if not file.is_dir():
        with file.open("w") as opened:
            yield opened.fileno()
        return
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
