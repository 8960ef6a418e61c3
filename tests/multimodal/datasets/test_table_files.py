"""Tables as columns and as rows, in every kind of file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.datasets import table_files
from multimodal.datasets.table_files import read_columns, read_table
from multimodal.errors import UserError

cell = st.sampled_from(["a", "b c", 'q"q', "x,y", "two\nlines", "é", " ", "1"])
lines = st.lists(st.lists(cell, min_size=3, max_size=3), min_size=1, max_size=12)


def write(file: Path, rows: list[list[str]]) -> Path:
    objects = [dict(zip("abc", row, strict=True)) for row in rows]
    if file.suffix == ".jsonl":
        file.write_text("\n".join(map(json.dumps, objects)))
    elif file.suffix == ".json":
        file.write_text(json.dumps(objects))
    elif file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(objects), file)
    else:
        with file.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out, delimiter="\t" if file.suffix == ".tsv" else ",").writerows(
                [["a", "b", "c"], *rows]
            )
    return file


@pytest.mark.parametrize("ending", table_files.TABLES)
@given(lines, st.sampled_from([(1, 100), (2, 1), (1000, 100)]))
def test_columns_are_the_cells_of_the_rows(
    tmp_path_factory, ending: str, rows: list[list[str]], sizes: tuple[int, int]
) -> None:
    file = write(tmp_path_factory.mktemp("t") / f"t{ending}", rows)
    columns, expected = read_table(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_files, "AT_ONCE", sizes[0])
        patch.setattr(table_files, "SHARED", sizes[1])
        table = read_columns([file], {"a", "c", "missing"})
    assert table.columns == columns == ["a", "b", "c"]
    assert table.cells == {name: [row[name] for row in expected] for name in ("a", "c")}
    assert len(table) == len(rows)


def test_equal_cells_are_one_object(tmp_path: Path) -> None:
    rows = [["same", str(i), ""] for i in range(5)]
    for ending in (".csv", ".jsonl"):
        table = read_columns([write(tmp_path / f"t{ending}", rows)], {"a"})
        assert len({id(text) for text in table.cells["a"]}) == 1


def test_several_files_are_one_below_the_other(tmp_path: Path) -> None:
    one = write(tmp_path / "one.csv", [["1", "2", "3"], ["4", "5", "6"]])
    two = tmp_path / "two.jsonl"
    two.write_text('{"a": "7", "d": 8}\n')
    table = read_columns([one, two], {"a", "c", "d"})
    assert table.columns == ["a", "b", "c", "d"]
    assert table.cells == {"a": ["1", "4", "7"], "c": ["3", "6", None], "d": [None, None, 8]}
    assert [table.file_of(row) for row in range(3)] == [0, 0, 1]
    assert table.where(1) == f"{one}, data row 2"
    assert table.where(2) == f"{two}, data row 1"
    assert table.where(0, beside=1) == "data row 1"
    assert table.where(0, beside=2) == f"{one}, data row 1"


def test_bytes_that_are_no_text_far_behind_the_header(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(b"a,b,c\n" + b"1,2,3\n" * 50_000 + b"\xff,2,3\n")
    for read in (read_table, lambda f: read_columns([f], {"a"})):
        with pytest.raises(UserError, match="is not UTF-8 text"):
            read(file)


def test_names_with_dots_are_columns_of_parquet(tmp_path: Path) -> None:
    rows = pyarrow.table({"a.b": ["x"], "a": [{"b": "y"}], "c": ["z"]})
    pyarrow.parquet.write_table(rows, tmp_path / "t.parquet")
    table = read_columns([tmp_path / "t.parquet"], {"a.b"})
    assert table.columns == ["a.b", "a", "c"]
    assert table.cells["a.b"] == ["x"]


def test_json_is_a_list_of_objects_or_one_keyed_by_file(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    for data in (
        [{"file": "a", "y": "1"}, {"file": "b", "y": "2", "more": None}],
        {"a": {"y": "1"}, "b": {"y": "2", "more": None}},
        {"a": "1", "b": "2"},
    ):
        file.write_text("\ufeff" + json.dumps(data), encoding="utf-8")
        table = read_columns([file], {"file", "y"}, keys=("file", "y"))
        assert table.cells == {"file": ["a", "b"], "y": ["1", "2"]}
    file.write_text('{"a": "x", "b": ["y", "z"]}')
    assert read_table(file)[1] == [{"path": "a", "label": "x"}, {"path": "b", "label": ["y", "z"]}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "data row 1 is not a JSON object.*or an object keyed by file"),
        ('"a"', "data row 1 is not a JSON object"),
        ('[{"a": 1}, null]', "data row 2 is not a JSON object"),
        ("[]", "has no rows"),
        ("{}", "has no rows"),
        ('{"a": 1, "a": 2}', "is not JSON: a key occurs twice"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_bad_json(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=words):
        read_columns([tmp_path / "t.json"], {"path"})
