"""Names of files as PyAV takes them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO


def pyav_source(path: Path) -> AbstractContextManager[BinaryIO | str]:
    """What PyAV opens: it takes names that are UTF-8, others as open files."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.open("rb")
    # The prefix keeps a colon in a name from meaning a protocol.
    return nullcontext(f"file:{path.absolute()}")
