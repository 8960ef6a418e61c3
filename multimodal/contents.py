"""What files hold, told by their bytes, so that other recordings under old names are noticed.

A digest is remembered while a file keeps its place, size, inode and times of change; the time of
its entry's change (ctime) tells a file whose modification time was set back (``cp -p``, ``rsync
-a``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from multimodal.bars import bar
from multimodal.errors import UserError
from multimodal.files import sweep, write_atomically

WFDB_ENDINGS = (".hea", ".dat", ".mat", ".atr")
MISSING, UNREADABLE = b"\0" * 32, b"\1" * 32
KEY, DIGEST = 16, 32  # bytes
# A file may change twice within one tick of its clock: what changed just now is not remembered.
SETTLED_SECONDS = 2.0


def digest(paths: Iterable[Path], remembered: Path | None = None) -> str:
    """16 hex digits over the bytes of files, in this order; their names and places count nothing.

    remembered: a file that keeps the digests of unchanged files between processes; it is made if
    need be, and one that is damaged is made anew.
    """
    order = [str(path) for path in paths]
    found = _digests(list(dict.fromkeys(order)), remembered)
    whole = hashlib.sha256()
    for name in order:
        whole.update(found[name])
    return whole.hexdigest()[:16]


def files_of(path: Path) -> Iterator[Path]:
    """The file itself; of a WFDB record its header and all that the header names."""
    wfdb = path.suffix.lower() in WFDB_ENDINGS
    if not wfdb and os.path.isfile(path):
        yield path
        return
    header = path.with_suffix(".hea") if wfdb else Path(f"{path}.hea")
    yield from dict.fromkeys([path, header, *_named(header)])


def stamp(path: Path) -> str:
    """32 hex digits over where a file lies, its size, inode and times; of a WFDB record over all
    its files. Of files that changed, or came, or went, it is another one; nothing is read.
    """
    keys = (_key(str(file)) or MISSING for file in files_of(path))
    return hashlib.blake2b(b"".join(keys), digest_size=KEY).hexdigest()


def _named(header: Path, depth: int = 0) -> Iterator[Path]:
    """The files of signals that a WFDB header names, and the segments of a longer record."""
    try:
        lines = header.read_text("latin-1").splitlines()
    except OSError:
        return
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    segments = bool(words) and "/" in words[0][0]
    for name in (line[0] for line in words[1:] if line[0] not in ("~", "-")):
        file = header.parent / (f"{name}.hea" if segments else name)
        yield file
        if segments and depth < 2:
            yield from _named(file, depth + 1)


def _digests(names: list[str], remembered: Path | None) -> dict[str, bytes]:
    known, found = _load(remembered), dict[str, bytes]()
    todo: dict[str, bytes] = {}
    for name in names:
        key = _key(name)
        if key is None:
            found[name] = MISSING
        elif key in known:
            found[name] = known[key]
        else:
            todo[name] = key
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        bar("reading files", len(todo)) as advance,
    ):
        for name, value in zip(todo, pool.map(_digest, todo), strict=True):
            found[name] = value
            advance()
    new = {key: found[name] for name, key in todo.items() if _is_settled(name, key, found[name])}
    if new and remembered is not None:
        _save(remembered, new)
    return found


def _digest(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return UNREADABLE


def _key(name: str) -> bytes | None:
    """Of a file as it lies there; None if there is none."""
    try:
        s = os.stat(name)
    except OSError:
        return None
    facts = (os.path.abspath(name), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
    return hashlib.blake2b(os.fsencode(repr(facts)), digest_size=KEY).digest()


def _is_settled(name: str, key: bytes, value: bytes) -> bool:
    """It did not change while it was read, nor just before."""
    if value == UNREADABLE or _key(name) != key:
        return False
    with contextlib.suppress(OSError):
        return 0 <= os.stat(name).st_ctime <= time.time() - SETTLED_SECONDS
    return False


def _load(file: Path | None) -> dict[bytes, bytes]:
    """Key -> digest; the file begins with a checksum of the rest."""
    try:
        data = b"" if file is None else file.read_bytes()
    except OSError:
        return {}
    checksum, rows = data[:DIGEST], data[DIGEST:]
    if len(rows) % (KEY + DIGEST) or hashlib.sha256(rows).digest() != checksum:
        return {}
    starts = range(0, len(rows), KEY + DIGEST)
    return {rows[i : i + KEY]: rows[i + KEY : i + KEY + DIGEST] for i in starts}


def _save(file: Path, new: dict[bytes, bytes]) -> None:
    """Add digests; of two processes at once one may lose its own, which costs it time only."""
    rows = b"".join(key + value for key, value in (_load(file) | new).items())
    # A place that cannot be written costs time only.
    with contextlib.suppress(OSError, UserError):
        file.parent.mkdir(parents=True, exist_ok=True)
        sweep(file.parent, shared=None)
        write_atomically(file, hashlib.sha256(rows).digest() + rows)
