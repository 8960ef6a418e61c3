"""Servers whose answers are made to harm: one line of plain text, and an end."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from multimodal.downloads import transfers
from multimodal.downloads.transfers import Fetcher
from multimodal.errors import UserError
from tests.multimodal.downloads.download_source import PLAIN


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that answers everything with these bytes and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                try:
                    client.settimeout(10)
                    client.recv(65_536)
                    client.sendall(answer)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/data.bin"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def fetched(answer: bytes, folder: Path, size: int | None = None) -> str:
    """What is said against the source; "" if the file came."""
    said: list[str] = []
    fetcher = Fetcher(say=said.append, opener=PLAIN, sleep=lambda _: None)
    with answering(answer) as url:
        try:
            fetcher.fetch(url, folder / "part", size=size)
            words = ""
        except UserError as error:
            words = str(error)
    for line in [*said, words]:
        assert line.isprintable(), line
        assert len(line) < 1_000
    return words


def reply(*headers: bytes, status: bytes = b"200 OK", body: bytes = b"12345") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", body])


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: " + "5²".encode(),),
        (b"Content-Length: " + b"9" * 5_000,),
        (b"Content-Length: -5",),
        (b"Content-Range: bytes " + b"9" * 5_000 + b"-1/2",),
        (b'ETag: "\xff\xfe"', b"Content-Length: 9"),
        (b'ETag: "' + b"x" * 60_000 + b'"', b"Content-Length: 9"),
        (b"Last-Modified: \xe9\x1b[2J", b"Content-Length: 9"),
        (b"Transfer-Encoding: chunked",),
        (b"X: " + b"x" * 70_000,),
        tuple(b"X: %d" % k for k in range(200)),
        (b"no colon at all",),
        (b"Content-Encoding: gzip",),
    ],
)
def test_headers_are_read_or_refused(tmp_path: Path, headers: tuple[bytes, ...]) -> None:
    fetched(reply(*headers), tmp_path)


@pytest.mark.parametrize(
    "place",
    [
        b"https://[::1",
        b"http://127.0.0.1:port/",
        b"ftp://a/b",
        b"file:///etc/hostname",
        b"//",
        b"http://127.0.0.1:1/\xff\xfe",
        b"http://127.0.0.1:99999999/",
        b"http://a\x01b/",
        b"http://" + b"a" * 5_000 + b"/",
        b"data.bin",
    ],
)
def test_where_it_sends_one_is_refused(tmp_path: Path, place: bytes) -> None:
    answer = reply(b"Location: " + place, b"Content-Length: 0", status=b"302 Found", body=b"")
    assert fetched(answer, tmp_path)


@pytest.mark.parametrize(
    "status", [b"404 \x1b[2Jgone", b"999", b"abc", b"500 " + b"x" * 5_000, b"-1 x", b"200"]
)
def test_a_status_is_told_as_plain_text(tmp_path: Path, status: bytes) -> None:
    fetched(reply(status=status), tmp_path)


def test_more_than_was_published_is_refused_on_the_way(tmp_path: Path) -> None:
    words = fetched(reply(body=bytes(100_000)), tmp_path, size=50)
    assert "the source sends more than" in words
    assert (tmp_path / "part").stat().st_size <= transfers.CHUNK


HEADERS = (b"Content-Length", b"Content-Range", b"ETag", b"Location", b"Transfer-Encoding")
HEADERS += (b"Last-Modified", b"Content-Type", b"Connection", b"Accept-Ranges")
VALUES = (b"5", b"-1", b"9" * 500, b"bytes 0-4/5", b"bytes 9-4/x", b'"a"', b'W/"b"', b"chunked")
VALUES += (b"\xff\x1b[31m", b"", b"close", b"http://[", b"bytes */5", "²".encode(), b"x" * 9_000)
STATUS = (b"200 OK", b"206 Partial", b"302 Found", b"416 No", b"503 Busy", b"304 Same", b"100 Go")
STATUS += (b"204 Empty", b"401 \x07", b"600 x", b"0 x")


def hostile(chance: random.Random) -> bytes:
    count = chance.randint(0, 5)
    headers = [chance.choice(HEADERS) + b": " + chance.choice(VALUES) for _ in range(count)]
    body = chance.choice([b"", b"12345", b"5\r\n12345\r\n0\r\n\r\n", bytes(70_000)])
    answer = reply(*headers, status=chance.choice(STATUS), body=body)
    return answer[: chance.randint(0, len(answer))] if chance.random() < 0.2 else answer


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_random_answers_are_taken_or_refused(tmp_path: Path, part: int) -> None:
    for number in range(20):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        fetched(hostile(random.Random(f"{part} {number}")), folder)
