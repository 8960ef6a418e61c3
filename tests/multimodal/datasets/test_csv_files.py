"""Official CSV files: cells as they are written, plain and gzipped, and damaged ones."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.datasets.csv_files import csv_rows
from multimodal.errors import UserError


def test_cells_are_text_and_lines_are_those_of_the_file(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_bytes(b'\xef\xbb\xbfa,b\r\n"x, y",none\r\n\r\n"two\nlines",NA\r\n')
    rows = [(2, {"a": "x, y", "b": "none"}), (5, {"a": "two\nlines", "b": "NA"})]
    assert list(csv_rows(table, ("a", "b"))) == rows
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes(), mtime=0))
    assert list(csv_rows(packed, ("a", "b"))) == rows


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_reads_what_the_standard_library_writes(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    table = tmp_path_factory.mktemp("csv") / "a.csv"
    table.write_bytes(text.getvalue().encode())
    assert [tuple(row.values()) for _, row in csv_rows(table, ("a", "b"))] == rows


def test_columns(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("b,c,a\n1,2,3\n")
    rows = csv_rows(table, ("a", "b"), others=True)
    assert [(row["a"], row["b"]) for _, row in rows] == [("3", "1")]
    for columns, others, words in (
        (("a", "b", "c"), False, r"a\.csv: expected the columns a,b,c; found b,c,a\."),
        (("a", "d"), True, r"a\.csv: there is no column 'd'; found b, c, a\."),
    ):
        with pytest.raises(UserError, match=words):
            list(csv_rows(table, columns, others=others))
    table.write_text("")
    with pytest.raises(UserError, match="found an empty file"):
        list(csv_rows(table, ("a",)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"a,b\n1\n", "line 2: too few columns, 1 cells for 2"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3: too many columns, 3 cells for 2"),
        ("a.csv", b"a,b\n\xff,1\n", "cannot be read as a CSV file"),
        ("a.csv", b'a,b\n"1"2,3\n', "cannot be read as a CSV file"),
        ("a.csv.gz", b"a,b\n1,2\n", "cannot be read as a CSV file"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "cannot be read as a CSV file"),
    ],
)
def test_damaged(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.* {words}|{name}.*, {words}"):
        list(csv_rows(tmp_path / name, ("a", "b")))


def test_names_that_come_again_are_numbered(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,a,a,b\n1,2,3,4,5\n")
    ((_, row),) = csv_rows(table, ["a", "b"], others=True, repeated=True)
    assert row == {"a": "1", "b": "2", "a.1": "3", "a.2": "4", "b.1": "5"}
