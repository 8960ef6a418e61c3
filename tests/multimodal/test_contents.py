"""Digests of files: of their bytes, and remembered only while nothing can have changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from multimodal import contents
from multimodal.contents import digest, files_of


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder of four files that have not changed for long."""
    monkeypatch.setattr(contents, "SETTLED_SECONDS", -1e9)
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        (folder / str(i)).write_bytes(bytes([i]) * 100)
    return folder


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files that were read."""
    found: list[str] = []
    whole = contents._digest
    monkeypatch.setattr(
        contents, "_digest", lambda name: (found.append(Path(name).name), whole(name))[1]
    )
    return found


def test_it_is_sha256_over_the_sha256_of_each_file(place) -> None:
    files = sorted(place.iterdir())
    each = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
    assert digest(files) == hashlib.sha256(each).hexdigest()[:16]
    assert digest(reversed(files)) != digest(files)
    assert digest([]) == hashlib.sha256().hexdigest()[:16]
    assert digest([*files, place / "none"]) != digest(files)


def test_what_stays_is_not_read_again(place, reads, tmp_path) -> None:
    files, kept = sorted(place.iterdir()), tmp_path / "cache" / "digests"
    first = digest(files, kept)
    assert sorted(reads) == ["0", "1", "2", "3"]
    assert digest(files, kept) == first
    assert len(reads) == 4
    (place / "2").write_bytes(b"x" * 100)
    assert digest(files, kept) != first
    assert reads[4:] == ["2"]
    (place / "2").write_bytes(bytes([2]) * 100)
    assert digest(files, kept) == first


def in_place(file: Path) -> None:
    file.write_bytes(b"y" * 100)


def with_its_old_time(file: Path) -> None:
    before = file.stat()
    file.write_bytes(b"y" * 100)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_another_file_of_that_time(file: Path) -> None:
    other = file.with_name("new")
    other.write_bytes(b"y" * 100)
    shutil.copystat(file, other)
    os.replace(other, file)


@pytest.mark.parametrize("replace", [in_place, with_its_old_time, by_another_file_of_that_time])
def test_a_file_of_the_same_size_is_noticed(place, tmp_path, replace) -> None:
    files, kept = sorted(place.iterdir()), tmp_path / "digests"
    first = digest(files, kept)
    time.sleep(0.02)  # longer than a tick of the file system's clock
    replace(place / "1")
    assert digest(files, kept) != first


def test_what_changed_just_now_is_not_remembered(place, reads, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(contents, "SETTLED_SECONDS", 60.0)
    files, kept = sorted(place.iterdir()), tmp_path / "digests"
    digest(files, kept)
    digest(files, kept)
    assert len(reads) == 8
    assert not kept.exists()


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 80])
def test_damaged_digests_are_made_anew(place, reads, tmp_path, damage: bytes) -> None:
    files, kept = sorted(place.iterdir()), tmp_path / "digests"
    first = digest(files, kept)
    whole = kept.read_bytes()
    kept.write_bytes(damage or bytes([*whole[:-1], whole[-1] ^ 1]))
    assert digest(files, kept) == first
    assert len(reads) == 8
    assert kept.read_bytes() == whole


def test_digests_that_cannot_be_kept_cost_time_only(place) -> None:
    files = sorted(place.iterdir())
    assert digest(files, place / "0" / "digests") == digest(files)


def test_all_files_of_a_wfdb_record_count(tmp_path) -> None:
    (tmp_path / "r.hea").write_text("# a\nr 2 360 10\nr.dat 16 200\n~ 16 200\nother.d 16 200\n")
    (tmp_path / "m.hea").write_text("m/3 2 360 20\nr 10\n~ 5\nm.1 10\n")
    (tmp_path / "m.1.hea").write_text("m.1 1 360 10\nm.1.dat 16 200\n")
    (tmp_path / "a.wav").touch()

    def names(name: str) -> list[str]:
        return [file.name for file in files_of(tmp_path / name)]

    assert names("a.wav") == ["a.wav"]
    assert names("r") == ["r", "r.hea", "r.dat", "other.d"]
    assert names("r.hea") == ["r.hea", "r.dat", "other.d"]
    assert names("r.dat") == ["r.dat", "r.hea", "other.d"]
    assert set(names("m")) == {"m", "m.hea", "r.hea", "r.dat", "other.d", "m.1.hea", "m.1.dat"}
    for name in ("r.dat", "other.d", "m.1.dat"):
        before = digest(files_of(tmp_path / "m"))
        (tmp_path / name).write_bytes(b"1")
        assert digest(files_of(tmp_path / "m")) != before, name
