"""Fetching over a real connection that breaks, lies and changes its mind."""

from __future__ import annotations

import io
import ssl
import urllib.error
import urllib.request
from collections import namedtuple
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal.downloads.transfers import CHUNK, Fetcher, file_name, secure_opener, version_path
from multimodal.errors import UserError
from tests.multimodal.downloads.download_source import PLAIN, Source, serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def source() -> Iterator[Source]:
    with serving() as source:
        source.files["/data.bin"] = CONTENT
        yield source


class Bench(NamedTuple):
    """A fetcher, and what it said, showed and waited for."""

    fetcher: Fetcher
    said: list[str]
    shown: list[tuple[str, int, int | None]]
    slept: list[float]


@pytest.fixture
def bench() -> Bench:
    said, shown, slept = [], [], []
    progress = lambda *at: shown.append(at)  # noqa: E731
    fetcher = Fetcher(say=said.append, progress=progress, opener=PLAIN, sleep=slept.append)
    return Bench(fetcher, said, shown, slept)


def begin(part: Path, content: bytes, version: str = '"1"') -> None:
    """What an interrupted download of a file of that version left."""
    part.write_bytes(content)
    version_path(part).write_text(version)


def test_a_file_comes_whole_with_its_size_told(source, bench, tmp_path) -> None:
    part = tmp_path / "data.bin.part"
    bench.fetcher.fetch(f"{source.url}/data.bin", part, size=len(CONTENT))
    assert part.read_bytes() == CONTENT
    assert version_path(part).read_text() == '"1"'
    assert bench.said == ["data.bin: 10,240 bytes"]
    assert bench.shown == [("data.bin", 0, 10_240), ("data.bin", 10_240, 10_240)]
    assert "Range" not in source.asked[0]


def test_progress_is_shown_every_chunk(source, bench, tmp_path) -> None:
    source.files["/data.bin"] = bytes(2 * CHUNK + 5)
    bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert [done for _, done, _ in bench.shown] == [0, CHUNK, 2 * CHUNK, 2 * CHUNK + 5]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(0, 5_000), max_size=3))
def test_a_broken_connection_is_resumed_byte_for_byte(source, bench, tmp_path, cuts) -> None:
    part = tmp_path / "part"
    part.unlink(missing_ok=True)
    source.asked.clear()
    source.plan = [("cut", cut) for cut in cuts]
    bench.fetcher.fetch(f"{source.url}/data.bin", part)
    assert part.read_bytes() == CONTENT
    there, tries = 0, []
    for cut in [*cuts, len(CONTENT)]:
        tries.append(there)
        there += cut
        if there >= len(CONTENT):
            break
    assert [h.get("Range") for h in source.asked] == [f"bytes={t}-" if t else None for t in tries]


def test_ctrl_c_leaves_what_the_next_call_goes_on_with(source, bench, tmp_path) -> None:
    part = tmp_path / "part"
    source.files["/data.bin"] = content = CONTENT * 300

    def stop(name: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Fetcher(say=print, progress=stop, opener=PLAIN).fetch(f"{source.url}/data.bin", part)
    assert part.read_bytes() == content[:CHUNK]
    bench.fetcher.fetch(f"{source.url}/data.bin", part)
    assert part.read_bytes() == content
    assert source.asked[1]["Range"] == f"bytes={CHUNK}-"
    assert bench.said == ["data.bin: going on after 1,048,576 bytes"]


@pytest.mark.parametrize("ranges", ["if", "always", "never"])
def test_a_changed_file_starts_anew(source, bench, tmp_path, ranges: str) -> None:
    """Also where the server resumes whatever If-Range says."""
    part = tmp_path / "part"
    begin(part, b"old" * 100)
    source.tag, source.ranges = '"2"', ranges
    bench.fetcher.fetch(f"{source.url}/data.bin", part)
    assert part.read_bytes() == CONTENT
    assert version_path(part).read_text() == '"2"'
    assert len(source.asked) == (2 if ranges == "always" else 1)


@pytest.mark.parametrize("tag", ["", 'W/"1"'])
def test_without_a_strong_version_nothing_is_resumed(source, bench, tmp_path, tag: str) -> None:
    source.tag, source.plan = tag, [("cut", 100)]
    bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert all("Range" not in headers for headers in source.asked)


def test_a_complete_part_is_not_fetched_again(source, bench, tmp_path) -> None:
    begin(tmp_path / "part", CONTENT)
    bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert not bench.shown


def test_a_part_longer_than_the_file_starts_anew(source, bench, tmp_path) -> None:
    begin(tmp_path / "part", CONTENT + b"more")
    bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert "shorter file" in bench.said[0]


def test_a_source_that_states_no_size_is_read_to_its_end(source, bench, tmp_path) -> None:
    source.with_length = False
    bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert bench.said == ["data.bin: size unknown"]


# ---- trouble --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_trouble_is_met_with_patience(source, bench, tmp_path, status: int) -> None:
    source.plan = [status, status]
    bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert bench.slept == [1, 2]
    assert str(status) in bench.said[0]


def test_patience_ends_and_keeps_the_part(source, bench, tmp_path) -> None:
    source.plan = [("cut", 10)] * 4
    with pytest.raises(UserError, match=r"after 40 of 10,240 bytes \(4 tries\); .*same command"):
        bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert bench.slept == [1, 2, 4]
    assert (tmp_path / "part").read_bytes() == CONTENT[:40]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(source, bench, tmp_path, status: int) -> None:
    source.plan = [status]
    with pytest.raises(UserError, match=rf"data\.bin: the server answers {status}.*describe"):
        bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part")
    assert not bench.slept
    assert not (tmp_path / "part").exists()


def test_a_missing_file_is_named(source, bench, tmp_path) -> None:
    with pytest.raises(UserError, match=r"other\.bin: the server answers 404"):
        bench.fetcher.fetch(f"{source.url}/other.bin", tmp_path / "part")


def test_another_size_than_published_is_refused(source, bench, tmp_path) -> None:
    with pytest.raises(UserError, match="10,240 bytes, not 10,241 as published"):
        bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "part", size=10_241)
    assert not (tmp_path / "part").exists()


def test_a_disk_too_small_is_refused_before_anything_comes(
    source, bench, tmp_path, monkeypatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(20_000))
    bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "once")
    with pytest.raises(UserError, match=r"needs 20,480 bytes, .* has 20,000 free; make room"):
        bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "twice", room=2)
    assert not (tmp_path / "twice").exists()


def test_a_disk_that_fails_is_no_trouble_of_the_network(source, bench, tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        bench.fetcher.fetch(f"{source.url}/data.bin", tmp_path / "no" / "part")
    assert not bench.slept


def test_a_host_that_does_not_exist_is_tried_and_named(tmp_path) -> None:
    slept: list[float] = []
    fetcher = Fetcher(say=lambda line: None, opener=PLAIN, sleep=slept.append)
    with pytest.raises(UserError, match=r"http://nowhere\.invalid/a: cannot be reached"):
        fetcher.fetch("http://nowhere.invalid/a", tmp_path / "part")
    assert slept == [1, 2, 4]


# ---- https only -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "ftp", "file", "data"])
def test_only_https_is_spoken(tmp_path, scheme: str) -> None:
    (tmp_path / "secret").write_text("secret")
    url = {"file": f"file://{tmp_path}/secret", "data": "data:,hello"}
    with pytest.raises(UserError, match=f"unknown url type: {scheme}"):
        Fetcher().fetch(url.get(scheme, f"{scheme}://127.0.0.1/a"), tmp_path / "part")
    assert not (tmp_path / "part").exists()


class _Fake(urllib.request.HTTPSHandler):
    """A secure server that answers as it is told, without a network."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def https_open(self, req):
        return self.answer(req)


def opener_with(answer) -> urllib.request.OpenerDirector:
    opener = secure_opener()
    opener.handle_open["https"] = [_Fake(answer)]  # type: ignore[attr-defined]
    opener.handle_open["https"][0].add_parent(opener)  # type: ignore[attr-defined]
    return opener


def test_a_redirection_to_plain_http_is_refused(tmp_path) -> None:
    def elsewhere(request):
        headers = Message()
        headers["Location"] = "http://127.0.0.1/a"
        response = urllib.request.addinfourl(io.BytesIO(), headers, request.full_url, 302)  # type: ignore[attr-defined]
        response.msg = "Found"
        return response

    with pytest.raises(UserError, match="unknown url type: http"):
        Fetcher(opener=opener_with(elsewhere)).fetch("https://host/a", tmp_path / "part")


def test_a_certificate_that_does_not_hold_is_final(tmp_path) -> None:
    def untrusted(request):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))

    slept: list[float] = []
    fetcher = Fetcher(opener=opener_with(untrusted), sleep=slept.append)
    with pytest.raises(UserError, match="self-signed certificate"):
        fetcher.fetch("https://host/a", tmp_path / "part")
    assert not slept


def test_names_of_files() -> None:
    assert file_name("https://host/a/b%20c.zip?download=1") == "b c.zip"
