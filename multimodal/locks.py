"""A folder that one process holds at a time."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from multimodal.errors import UserError


@contextlib.contextmanager
def held(file: Path, words: str) -> Iterator[None]:
    """Hold the lock ``file``; UserError with ``words`` if another process does.

    A killed process holds nothing.
    """
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(words) from error
        yield
