"""What files hold, told by their bytes, so that other recordings under old names are noticed.

A digest is remembered while a file keeps its place, size, inode and times of change; the time of
its entry's change (ctime) tells a file whose modification time was set back (``cp -p``, ``rsync
-a``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
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
BLOCK = 2**18  # bytes that are read at once
PART = 64  # files that a thread takes at once: a task costs more than a small file
# A file may change twice within one tick of its clock: what changed just now is not remembered.
SETTLED_SECONDS = 2.0


def digest(files: Iterable[Path | str], remembered: Path | None = None) -> str:
    """16 hex digits over the bytes of files, in this order; their names and places count nothing.

    remembered: a file that keeps the digests of unchanged files between processes; it is made if
    need be, and one that is damaged is made anew.
    """
    order = [str(file) for file in files]
    return _over(order, {name: _key(name) for name in dict.fromkeys(order)}, remembered)


def digest_records(paths: Iterable[str], remembered: Path | None = None) -> str:
    """The same of all ``files_of`` each path, which may come several times."""
    order: list[str] = []
    keys: dict[str, bytes | None] = {}
    several: dict[str, list[str]] = {}
    for path in paths:
        if path not in keys and path not in several:
            # Most are files of their own: one look tells that, and their key as well.
            wfdb = path.lower().endswith(WFDB_ENDINGS)
            key = None if wfdb else _key(path, plain=True)
            if key is None:
                several[path] = [str(file) for file in files_of(Path(path))]
            else:
                keys[path] = key
        order += several.get(path, (path,))
    for name in dict.fromkeys(name for names in several.values() for name in names):
        keys.setdefault(name, _key(name))
    return _over(order, keys, remembered)


def size_of(name: str | None) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return -1 if name is None else os.stat(name).st_size
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return -1


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


def _over(order: list[str], keys: dict[str, bytes | None], remembered: Path | None) -> str:
    """Over the digests of files in this order. keys: of all of them, None of those not there."""
    known, new = _load(remembered), dict[bytes, bytes]()
    found = {n: MISSING if k is None else known.get(k, b"") for n, k in keys.items()}
    todo = [(name, key) for name, key in keys.items() if key is not None and not found[name]]
    parts = [todo[i : i + PART] for i in range(0, len(todo), PART)]
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        bar("reading files", len(parts)) as advance,
    ):
        for part, read in zip(parts, pool.map(_read, parts), strict=True):
            for (name, key), (value, settled) in zip(part, read, strict=True):
                found[name] = value
                if settled:
                    new[key] = value
            advance()
    if new and remembered is not None:
        _save(remembered, new)
    whole = hashlib.sha256()
    for name in order:
        whole.update(found[name])
    return whole.hexdigest()[:16]


def _read(files: list[tuple[str, bytes]]) -> list[tuple[bytes, bool]]:
    """Of files and their keys the digest, and whether it may be remembered."""
    values = [(name, key, _digest(name)) for name, key in files]
    return [(value, _is_settled(name, key, value)) for name, key, value in values]


def _digest(name: str) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(name, "rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError:
        return UNREADABLE
    return digest.digest()


def _key(name: str, *, plain: bool = False) -> bytes | None:
    """Of a file as it lies there; None if there is none. plain: nor of a folder."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return None if plain and not stat.S_ISREG(found.st_mode) else _key_of(name, found)


def _key_of(name: str, s: os.stat_result) -> bytes:
    facts = (os.path.abspath(name), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
    return hashlib.blake2b(os.fsencode(repr(facts)), digest_size=KEY).digest()


def _is_settled(name: str, key: bytes, value: bytes) -> bool:
    """It did not change while it was read, nor just before."""
    with contextlib.suppress(OSError):
        now = os.stat(name)
        quiet = 0 <= now.st_ctime <= time.time() - SETTLED_SECONDS
        return quiet and value != UNREADABLE and _key_of(name, now) == key
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
