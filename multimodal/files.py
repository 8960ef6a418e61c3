"""Files and folders that are there whole or not at all, on a disk that may refuse.

What is written goes to a temporary name beside its own, ``.NAME.PROCESS-RANDOM.part``, and takes
its place when it is complete and on the disk. A process that is killed leaves that name behind;
``sweep`` takes it away when the next one starts there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from multimodal.errors import DISK, UserError, of_the_disk

# Also those of earlier versions, which had no random part, and some no ending.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)(-[0-9a-f]{6})?\.part", re.DOTALL)
EARLIER = re.compile(
    r"\.(?P<name>checkpoint\.pt|digests|[a-z_]+\.(json|jsonl|yaml|html))\.(?P<process>\d+)"
)
KEPT_OF_NAME = 50  # characters: with the rest, no system's limit is passed
STALE_SECONDS = 3600.0  # nobody writes any more what did not change for so long
GONE = "its folder is gone; give the same command again"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """UserError that names ``path`` and the remedy for whatever the disk refuses inside."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found, remedy = of_the_disk(error), ""
        if found is not None:
            remedy = DISK[found.errno or 0]
        elif isinstance(error, OSError) and error.errno == errno.ENOENT:
            found, remedy = error, GONE
        if found is None:
            raise
        raise UserError(f"{path}: cannot be written ({found.strerror}); {remedy}.") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the name of a file to write, which becomes ``path`` at the end, flushed to the disk.

    Where that fails, ``path`` stays as it was and nothing is left beside it. UserError as
    ``writing``.
    """
    temporary = _beside(path)
    with writing(path):
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path, *, over: bool = False) -> Iterator[Path]:
    """The same with a folder, which is made. over: in place of one that may be there and full."""
    temporary = _beside(path)
    with writing(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if over:
                shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Readers see the old file or the new one, never a part. UserError as ``writing``."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def sweep(folder: Path, *, shared: tuple[str, ...] | None = ()) -> None:
    """Take away what processes that were killed left half written in ``folder``, not below it.

    The caller holds the folder's lock, so nobody else writes there now, but for the files
    ``shared`` (None: all of them): of these only what did not change for an hour goes.
    """
    for path, found in _temporaries(folder):
        kept = shared is None or found["name"] in shared
        with contextlib.suppress(OSError):
            if not kept or time.time() - path.lstat().st_mtime >= STALE_SECONDS:
                _remove(path)


def sweep_beside(path: Path) -> None:
    """Take away what was left half written of ``path`` by processes that are no more."""
    for left, found in _temporaries(path.parent):
        if found["name"] == path.name[:KEPT_OF_NAME] and not _lives(int(found["process"])):
            _remove(left)


def _temporaries(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    with contextlib.suppress(OSError):
        found = [
            (p, TEMPORARY.fullmatch(p.name) or EARLIER.fullmatch(p.name)) for p in folder.iterdir()
        ]
        return [(path, match) for path, match in found if match]
    return []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _beside(path: Path) -> Path:
    end = f"{os.getpid()}-{secrets.token_hex(3)}.part"
    return path.with_name(f".{path.name[:KEPT_OF_NAME]}.{end}")
