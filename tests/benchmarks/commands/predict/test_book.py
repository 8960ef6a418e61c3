"""What a stopped run of ``medley predict`` keeps, and what of it is true no more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.commands.predict.book import Book
from benchmarks.commands.predict.inputs import Part
from benchmarks.commands.predict.model import Predicted
from multimodal.errors import UserError

MODEL = {"model": "0123", "window": None}


def begun(place: Path, parts: list[Part], error: str = "") -> Path:
    """A table of which all parts are done, and which was not finished."""
    out = place / "out.csv"
    book = Book(out, MODEL)
    assert book.missing(parts) == parts
    assert not book.partial.exists()
    book.add({part: [Predicted(part.name, error=error)] for part in parts})
    return out


def rewritten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(1, 1))


def of_another_size_and_the_old_time(file: Path) -> None:
    before = file.stat()
    file.write_bytes(file.read_bytes() + b"more")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_an_older_one(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"x" * file.stat().st_size)
    shutil.copystat(file, other)
    os.replace(other, file)


@pytest.mark.parametrize(
    "change", [rewritten, of_another_size_and_the_old_time, replaced_by_an_older_one, os.remove]
)
@pytest.mark.parametrize("name", ["a.wav", "record.hea", "record.dat"])
def test_a_file_that_has_changed_is_named_again(tmp_path, change, name) -> None:
    (tmp_path / "record.hea").write_text("record 1 100 10\nrecord.dat 16 200 12 0 0 0 0 I\n")
    for other in ("record.dat", "a.wav", "b.wav"):
        (tmp_path / other).write_bytes(b"what stands here")
    parts = [Part(tmp_path / file, file) for file in ("a.wav", "b.wav", "record.hea")]
    out = begun(tmp_path, parts)
    assert Book(out, MODEL).missing(parts) == []
    change(tmp_path / name)
    whose = parts[2] if name.startswith("record") else parts[0]
    assert Book(out, MODEL).missing(parts) == [whose]


def test_what_changes_while_it_is_read_is_named_again(tmp_path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"one")
    book, parts = Book(tmp_path / "out.csv", MODEL), [Part(file, "a.wav")]
    assert book.missing(parts) == parts
    file.write_bytes(b"other")
    book.add({parts[0]: [Predicted("a.wav")]})
    assert Book(tmp_path / "out.csv", MODEL).missing(parts) == parts


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path) -> None:
    parts = [Part(tmp_path / "absent.wav", "absent.wav")]
    out = begun(tmp_path, parts, error="no such file")
    book = Book(out, MODEL)
    assert book.missing(parts) == parts
    book.add({parts[0]: [Predicted("absent.wav", error="no such file")]})
    (row,) = book.finish(parts, ["low"], 1)
    assert row.error == "no such file"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_lines_of_an_earlier_version_begin_anew(tmp_path) -> None:
    partial = tmp_path / "out.csv.partial"
    partial.write_text('{"model": "0123", "window": null}\n{"part": ["a.wav", 0.0, null]}\n')
    with pytest.raises(UserError, match=r"another version of Medley; give --overwrite"):
        Book(tmp_path / "out.csv", MODEL)
    assert Book(tmp_path / "out.csv", MODEL, overwrite=True).done == {}
    partial.write_text('{"version": 2, "mo')  # stopped in its first line
    assert Book(tmp_path / "out.csv", MODEL).done == {}
