"""Get a dataset from its official source: fetched, verified, unpacked and recorded.

What was fetched stands in ``.download.json`` in the dataset's folder, with the sha256 of every
file, so that copies on two machines can be compared.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from multimodal.downloads.archives import Unpacked, unpack
from multimodal.downloads.transfers import Fetcher, file_name, version_path
from multimodal.errors import UserError
from multimodal.files import sweep, write_atomically
from multimodal.locks import held
from multimodal.registry import Config

RECORD, LOCK = ".download.json", ".download.lock"
CHUNK = 2**20
# Where archives of PhysioNet's open projects lie. It publishes checksums of the files in them, but
# none of the archives.
PHYSIONET = "https://physionet.org/static/published-projects"


@dataclass(frozen=True)
class Download:
    """One file of a dataset's official source.

    url: https. bytes, checksum ("md5:HEX" or "sha256:HEX"): as published; None where nobody
    publishes them, never a value that was merely seen once. unpack: it is a zip or tar, of which
    only what it holds is kept. into: folder for it, below the dataset's own. by_hand: command, in
    the dataset's folder, for what is left to do where Python cannot unpack the archive.
    """

    url: str
    bytes: int | None = None
    checksum: str | None = None
    unpack: bool = True
    into: str = ""
    by_hand: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return file_name(self.url)


class Fetched(Config):
    """What the record says of one URL.

    sha256, bytes: of the file. published: the checksum that it was verified against, if any.
    day: when, UTC. entries, files: what it unpacked to (names at the top, number of files).
    """

    sha256: str
    bytes: int
    published: str | None
    day: str
    entries: tuple[str, ...] = ()
    files: int = 0


def get(downloads: Sequence[Download], folder: Path, fetcher: Fetcher) -> None:
    """Make what ``downloads`` name lie in ``folder``, the dataset's own.

    What is there already, by the record, is left alone; an interrupted download goes on.

    UserError for a folder that was filled in another way or that another process fetches into, for
    no room on the disk, for a source that cannot be reached or has changed, for a wrong checksum,
    and for an archive that ``unpack`` refuses.
    """
    try:
        _refuse_foreign(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / LOCK, f"{folder}: another process fetches into it; wait for it."):
            sweep(folder)
            record = _read_record(folder)
            # From now on the folder counts as ours, also if this is interrupted.
            _write_record(folder, record)
            for download in downloads:
                place = folder / download.into
                known = record.get(download.url)
                if known is not None and _still_there(download, place, known):
                    fetcher.say(f"{download.name}: there since {known.day}, sha256 {known.sha256}")
                    continue
                if known is not None:
                    fetcher.say(f"{download.name}: no longer complete or unchanged; fetched again")
                place.mkdir(parents=True, exist_ok=True)
                part = place / f"{download.name}.part"
                # An archive takes at least its own size again when it is unpacked.
                room = 2 if download.unpack else 1
                fetcher.fetch(download.url, part, size=download.bytes, room=room)
                record[download.url] = _settle(download, part, fetcher)
                _write_record(folder, record)
    except OSError as error:
        problem = error if error.filename else f"cannot be written ({error.strerror})"
        raise UserError(
            f"{folder}: {problem}; mend that and give the same command again."
        ) from error


def _settle(download: Download, part: Path, fetcher: Fetcher) -> Fetched:
    """Verify the complete ``part``, then unpack it or give it its name."""
    sha256, size = _verify(download, part), part.stat().st_size
    if download.checksum is None:
        words = f"no published checksum; note its sha256 {sha256} to compare copies"
    else:
        words = f"{download.checksum} as published"
    fetcher.say(f"{download.name}: {words}{'; unpacking' if download.unpack else ''}")
    unpacked = Unpacked((), 0, 0)
    if download.unpack:
        unpacked = unpack(part, part.parent, zipped=download.name.endswith(".zip"))
        counts = f"{unpacked.files:,} files, {unpacked.size:,} bytes"
        fetcher.say(f"{download.name}: unpacked {counts}")
        part.unlink()
    else:
        part.replace(part.with_name(download.name))
    version_path(part).unlink(missing_ok=True)
    return Fetched(
        sha256=sha256,
        bytes=size,
        published=download.checksum,
        day=datetime.now(UTC).date().isoformat(),
        entries=unpacked.entries,
        files=unpacked.files,
    )


def _verify(download: Download, part: Path) -> str:
    """The sha256 of ``part``; UserError, and no ``part`` any more, if it is not as published."""
    size = part.stat().st_size
    algorithm, _, value = (download.checksum or "sha256:").partition(":")
    digests = _digests(part, {"sha256", algorithm})
    for kind, expected, found in (
        ("size", download.bytes, size),
        (algorithm, value or None, digests[algorithm]),
    ):
        if expected is not None and expected != found:
            part.unlink()
            version_path(part).unlink()
            raise UserError(
                f"{download.url}: {kind} {expected} expected, {found} found in {size:,} bytes: "
                "damaged on the way, or changed at the source. The file was deleted; give the same "
                "command again, and if that fails too, do not use the source."
            )
    return digests["sha256"]


def _digests(file: Path, algorithms: set[str]) -> dict[str, str]:
    """Algorithm -> hex digest of the file."""
    running = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            for digest in running.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in running.items()}


def _still_there(download: Download, place: Path, known: Fetched) -> bool:
    """As many files as were unpacked, or the file itself, unchanged."""
    if download.unpack:
        tops = [place / entry for entry in known.entries]
        inside = sum(len(files) for top in tops for _, _, files in os.walk(top))
        return sum(top.is_file() for top in tops) + inside >= known.files
    file = place / download.name
    if not file.is_file():
        # Whoever had to unpack the archive by hand may well have deleted it.
        return bool(download.by_hand)
    return _digests(file, {"sha256"})["sha256"] == known.sha256


def _refuse_foreign(folder: Path) -> None:
    """UserError for a folder that somebody else filled."""
    if (folder / RECORD).is_file() or not folder.is_dir():
        return
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise UserError(
            f"{folder} holds files that medley did not fetch, and they are left alone: use them "
            "(medley datasets check), move them away, or give another --root."
        )


def _read_record(folder: Path) -> dict[str, Fetched]:
    """URL -> what was fetched."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text("utf-8"))
        return {url: Fetched.parse(entry) for url, entry in data.items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged; move {folder} away and get the data anew.") from error


def _write_record(folder: Path, record: dict[str, Fetched]) -> None:
    text = json.dumps({url: entry.dump() for url, entry in record.items()}, indent=1)
    write_atomically(folder / RECORD, f"{text}\n")
