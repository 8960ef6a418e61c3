"""Fetch one file over https, going on where an earlier try stopped."""

from __future__ import annotations

import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from multimodal.errors import UserError
from multimodal.files import writing

RETRIES = 3
TIMEOUT_SECONDS = 60
CHUNK = 2**20
# Request timeout, too early, too many requests, and the server's own trouble.
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
NETWORK = (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")
LENGTH = re.compile(r"[0-9]{1,18}")
LONGEST_VERSION = 200
MOST_BYTES = 2**40  # of a file whose size nobody states


def file_name(url: str) -> str:
    """The last part of a URL's path."""
    return unquote(PurePosixPath(urlsplit(url).path).name)


def secure_opener() -> urllib.request.OpenerDirector:
    """Opens https, also behind a proxy, and nothing else: a redirection to http fails."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _no_progress(name: str, done: int, total: int | None) -> None:
    pass


@dataclass(frozen=True)
class Fetcher:
    """How files are fetched.

    say: gets lines for the user. progress: gets, often, a file's name, its bytes that are here and
    its bytes in all (None: unknown). opener: opens URLs. sleep: waits so many seconds.
    """

    say: Callable[[str], None] = print
    progress: Callable[[str, int, int | None], None] = _no_progress
    opener: urllib.request.OpenerDirector = field(default_factory=secure_opener)
    sleep: Callable[[float], None] = time.sleep

    def fetch(self, url: str, part: Path, *, size: int | None = None, room: int = 1) -> None:
        """Put all of the file at ``url`` into ``part``; when interrupted, call it again.

        Beside ``part`` lies ``part.version``, what the server calls this version of the file (a
        strong ETag or its date): if it has another one by then, ``part`` starts anew. Both are the
        caller's to remove. Trouble that may pass is met with three more tries.

        size: bytes that it must have, None if unknown. room: how often it must fit on the disk.
        UserError if the source has no such file, offers another size, cannot be reached or cannot
        be trusted, and if the disk is too small or ``part`` cannot be written.
        """
        for attempt in range(RETRIES + 1):
            try:
                return self._try(url, part, size, room)
            except UserError:
                raise
            # ValueError: addresses and headers that cannot be read (Python's own words for them).
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, OSError) and not isinstance(error, NETWORK):
                    raise
                problem = f"{url}: {_words(error)}"
                if _lasts(error):
                    raise UserError(
                        f"{problem}; for other ways see: medley datasets describe NAME."
                    ) from error
                if attempt == RETRIES:
                    raise UserError(
                        f"{problem} ({RETRIES + 1} tries); give the same command again, it goes on "
                        "where it stopped."
                    ) from error
                self.say(f"{problem}; next try in {2**attempt} s")
                self.sleep(2**attempt)

    def _try(self, url: str, part: Path, size: int | None, room: int) -> None:
        name, version_file = file_name(url), version_path(part)
        version = version_file.read_text("utf-8") if version_file.is_file() else ""
        done = part.stat().st_size if part.is_file() and version else 0
        response = self._open(url, part, done, version)
        if response is None:
            return
        with response:
            start, total = _extent(response)
            if start not in (0, done) or (start and _version(response) not in ("", version)):
                part.unlink(missing_ok=True)
                raise ConnectionError("the source has another file now")
            if done:
                again = "the source sends all of it again: it has changed, or it cannot resume"
                self.say(f"{name}: {f'going on after {start:,} bytes' if start else again}")
            if None not in (size, total) and size != total:
                raise UserError(
                    f"{url}: {total:,} bytes, not {size:,} as published; do not use it."
                )
            _refuse_full_disk(name, part.parent, total, start, room)
            if not start:
                part.unlink(missing_ok=True)  # first: it must never have another file's version
                version_file.write_text(_version(response), "utf-8")
                self.say(f"{name}: " + ("size unknown" if total is None else f"{total:,} bytes"))
            done = start
            with writing(part):
                file = part.open("ab")
            with file:
                self.progress(name, done, total)
                while chunk := response.read(CHUNK):
                    done += len(chunk)
                    if done > (total or size or MOST_BYTES):
                        raise ConnectionError(f"the source sends more than {done:,} bytes")
                    with writing(part):
                        file.write(chunk)
                        file.flush()
                    self.progress(name, done, total)
        if total is not None and done != total:
            raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")

    def _open(self, url: str, part: Path, done: int, version: str) -> Any:
        """The response, or None if ``part`` has all bytes already."""
        headers = {"User-Agent": "medley"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": version}
        request = urllib.request.Request(url, headers=headers)
        try:
            return self.opener.open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            if error.headers.get("Content-Range") == f"bytes */{done}":
                return None
            part.unlink(missing_ok=True)
            raise ConnectionError("the source has a shorter file now") from error


def version_path(part: Path) -> Path:
    """Where ``Fetcher`` keeps the version of ``part``."""
    return part.with_name(f"{part.name}.version")


def _extent(response: Any) -> tuple[int, int | None]:
    """First byte of the body within the file, and the file's size if the server says it."""
    if response.status == 206:
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return (int(match[1]), int(match[2])) if match else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if LENGTH.fullmatch(length) else None


def _version(response: Any) -> str:
    """What tells one version of the file from another; "" if nothing does, so no resuming."""
    tag = response.headers.get("ETag", "")
    # A weak tag may be that of a file that is merely alike.
    version = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    # It is sent back as a header, and kept in a file.
    short = len(version) <= LONGEST_VERSION and version.isascii() and version.isprintable()
    return version if short else ""


def _refuse_full_disk(name: str, folder: Path, total: int | None, start: int, room: int) -> None:
    needed = 0 if total is None else total * room - start
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {name} needs {needed:,} bytes, but the disk has {free:,} free; make room, "
            "or give another --root."
        )


def _lasts(error: Exception) -> bool:
    """Whether another try would only meet the same trouble."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code not in TRY_AGAIN
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return True
    reason = getattr(error, "reason", None)
    # Words as a reason: a scheme that is not spoken.
    return isinstance(reason, str | ssl.SSLCertVerificationError)


def _words(error: Exception) -> str:
    words = str(error) or type(error).__name__
    if isinstance(error, urllib.error.HTTPError):
        words = f"the server answers {error.code} {error.reason}"
    elif isinstance(error, urllib.error.URLError):
        words = f"cannot be reached ({error.reason})"
    # They are the server's: nothing that a terminal obeys, and one line.
    return ascii(words)[1:-1][:200] if not (words.isprintable() and len(words) <= 200) else words
