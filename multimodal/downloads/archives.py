"""Unpack archives that others made: no path, link, number or size in them may surprise us."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from multimodal.errors import UserError

# Several times the largest open dataset that Medley reads.
MAX_FILES = 1_000_000
MAX_BYTES = 100 * 2**30
# No recordings pack so well; DEFLATE alone reaches 1,032, and archives within archives any ratio.
MAX_RATIO, ALWAYS = 200, 2**30
DEEPEST, LONGEST_HEADER = 100, 2**20
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
STAGING = ".unpacking"
CHUNK = 2**20


class Unpacked(NamedTuple):
    """What an archive held.

    entries: names at its top, sorted. files: their number, at all depths. size: bytes in all.
    """

    entries: tuple[str, ...]
    files: int
    size: int


def unpack(
    archive: Path,
    folder: Path,
    *,
    zipped: bool,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> Unpacked:
    """Unpack a zip (``zipped``) or a tar of any compression into ``folder``, all of it or nothing.

    A single folder at the top of the archive, such as ``ESC-50-master/``, is left out: what it
    holds goes into ``folder``. Files of the same names are replaced, others stay.

    UserError for absolute paths and "..", for anything but files and folders (links, devices),
    for more than ``max_files`` entries or ``max_bytes`` unpacked, for more than the disk has room
    for, for a password and for a damaged archive; ``folder`` is then as it was.
    """
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    staging.mkdir(parents=True)
    try:
        budget = _Budget(archive, max_files, max_bytes, shutil.disk_usage(folder).free)
        (_unzip if zipped else _untar)(archive, staging, budget)
        top = _without_single_folder(staging)
        entries = tuple(sorted(os.listdir(top)))
        _move(top, folder)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked into {folder} ({error}).") from error
    # Damaged archives raise nearly anything: errors of their own, of zlib and lzma, EOFError,
    # ValueError, MemoryError for a dictionary of 4 GiB, RecursionError for headers of headers.
    except Exception as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{archive}: damaged, or not the archive it should be ({words}); delete it and get it "
            "again."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Unpacked(entries, budget.files, budget.size)


class _Budget:
    """Counts what comes out of an archive and refuses what must not. free: bytes on the disk."""

    def __init__(self, archive: Path, max_files: int, max_bytes: int, free: int) -> None:
        self.archive, self.max_files, self.max_bytes, self.free = (
            archive,
            max_files,
            max_bytes,
            free,
        )
        self.entries = self.files = self.size = 0

    def admit(self, name: str, *, is_folder: bool, is_file: bool, size: int) -> None:
        """UserError unless one more entry, of ``size`` bytes, is harmless and within the limits."""
        # An archive may come from any system, so both ways of writing a path count.
        for path in (PurePosixPath(name), PureWindowsPath(name)):
            if path.root or path.drive or ".." in path.parts:
                raise self._refusal(f"{name[:200]!r} leads out of its folder")
            if len(path.parts) > DEEPEST:
                raise self._refusal(f"{name[:200]!r} lies over {DEEPEST} folders deep")
        if not is_folder and not is_file:
            raise self._refusal(f"{name[:200]!r} is a link or a device")
        self.entries += 1
        self.files += is_file
        self.size += size
        if self.entries > self.max_files:
            raise self._refusal(f"more than {self.max_files:,} entries")
        packed = self.archive.stat().st_size
        if self.size > ALWAYS + MAX_RATIO * packed:
            raise self._refusal(f"{packed:,} bytes become {self.size:,} or more")
        if self.size > self.max_bytes:
            raise self._refusal(f"more than {self.max_bytes:,} bytes unpacked")
        if self.size > self.free:
            raise UserError(
                f"{self.archive}: does not fit unpacked, the disk has {self.free:,} bytes free; "
                "make room and give the same command again."
            )

    def _refusal(self, reason: str) -> UserError:
        return UserError(f"{self.archive}: refused, {reason}; nothing was unpacked.")


def _unzip(archive: Path, staging: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if member.flag_bits & 1:
                raise UserError(f"{archive}: {member.filename!r} is locked with a password.")
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where no Unix made the archive
            ordinary = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            budget.admit(
                member.filename,
                is_folder=ordinary and member.is_dir(),
                is_file=ordinary and not member.is_dir(),
                size=member.file_size,  # zipfile writes no more than this, whatever follows
            )
        file.extractall(staging)


class _Member(tarfile.TarInfo):
    """A member whose extended headers, which tarfile reads into memory, are short."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in EXTENDED and member.size > LONGEST_HEADER:
            raise ValueError(f"an extended header of {member.size:,} bytes")
        return member


def _untar(archive: Path, staging: Path, budget: _Budget) -> None:
    # One pass: to list a compressed tar beforehand would be to decompress it twice.
    with tarfile.open(archive, tarinfo=_Member) as file:
        for member in file:
            budget.admit(
                member.name,
                is_folder=member.isdir(),
                is_file=member.isfile(),
                size=member.size,
            )
            file.extract(member, staging, filter="data")
        # tarfile stops at the last member; a compressed stream's checksum stands behind it.
        assert file.fileobj is not None
        while file.fileobj.read(CHUNK):
            pass


def _without_single_folder(folder: Path) -> Path:
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _move(source: Path, target: Path) -> None:
    """What the folder ``source`` holds, into the folder ``target``; same names are replaced."""
    for entry in source.iterdir():
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            entry.replace(place)
