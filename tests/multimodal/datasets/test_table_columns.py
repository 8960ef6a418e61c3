"""A column that a setting names stands in each file and each row, or one line says where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from multimodal.datasets.table import TableConfig
from multimodal.errors import UserError

COLUMNS = ("path", "label", "Edema", "Effusion", "speaker", "text", "slots", "split", "time")
SETTINGS: dict[str, dict[str, Any]] = {
    "path": {"path_column": "path"},
    "label": {"label_column": "label"},
    "Edema": {"label_columns": ("Edema", "Effusion")},
    "speaker": {"group_column": "speaker"},
    "text": {"text_column": "text"},
    "slots": {"slots_column": "slots"},
    "split": {},
}
ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


def row(number: int) -> dict[str, Any]:
    cells = f"{number}.wav", f"c{number % 2}", "1", "0", f"s{number}", "words", '{"a": "b"}'
    return dict(zip(COLUMNS, (*cells, ("train", "test")[number % 2], "2020"), strict=True))


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    else:
        mark = "\t" if file.suffix == ".tsv" else ","
        quoted = [
            [json.dumps(cell).replace('\\"', '""') for cell in each.values()] for each in rows
        ]
        lines = [list(rows[0]), *quoted]
        file.write_text("".join(mark.join(line) + "\n" for line in lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(16):
        (tmp_path / f"{number}.wav").write_bytes(b"x")
    return tmp_path


def renamed(rows: list[dict[str, Any]], old: str, new: str | None) -> list[dict[str, Any]]:
    return [
        {(new or k if k == old else k): v for k, v in r.items() if k != old or new} for r in rows
    ]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("column", SETTINGS)
def test_another_spelling_in_one_of_several_files(root: Path, column: str, ending: str) -> None:
    one, two = root / "a.csv", root / f"b{ending}"
    write(one, [row(i) for i in range(8)])
    rows = [row(i) for i in range(8, 16)]
    config = TableConfig(file=("a.csv", two.name), **SETTINGS[column])
    write(two, rows)
    assert len(config.build(root)) == 16
    for other in (column.swapcase(), column[:-1], f" {column}s"):
        write(two, renamed(rows, column, other))
        with pytest.raises(UserError) as caught:
            config.build(root)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{two}: ")
        assert f"{column!r} is in other files of the table and not in this one" in message
        read = other.strip() if ending in (".csv", ".tsv") else other
        assert f"did you mean {read!r}?; columns: " in message
    write(two, renamed(rows, column, None))
    with pytest.raises(UserError, match="not in this one; columns: "):
        config.build(root)


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
@pytest.mark.parametrize("column", SETTINGS)
def test_rows_without_a_key(root: Path, column: str, ending: str) -> None:
    file = root / f"t{ending}"
    rows = [row(i) for i in range(8)]
    config = TableConfig(file=file.name, **SETTINGS[column])
    write(file, [*rows[:5], *renamed(rows[5:], column, f"{column}_")])
    with pytest.raises(UserError) as caught:
        config.build(root)
    assert str(caught.value).startswith(f"{file}, data row 6: it has no {column!r}")
    assert f"did you mean '{column}_'" in str(caught.value)
    if column in ("Edema", "speaker", "text", "slots"):  # nothing may stand there
        write(file, [*rows[:5], *({**each, column: None} for each in rows[5:])])
        assert len(config.build(root)) == 8


def test_columns_that_no_setting_reads_may_come_and_go(root: Path) -> None:
    write(root / "a.csv", [row(i) for i in range(8)])
    rows = renamed(renamed([row(i) for i in range(8, 16)], "split", None), "speaker", "Speaker")
    write(root / "b.jsonl", [rows[0], *renamed(rows[1:], "time", None)])
    config = TableConfig(file=("a.csv", "b.jsonl"), split_column=None)
    assert len(config.build(root)) == 16
    by_path = TableConfig(file=("a.csv", "b.jsonl"), split_pattern="^(train)")
    with pytest.raises(UserError, match="finds no split"):  # the column "split" is not asked for
        by_path.build(root)


def test_times_too(root: Path) -> None:
    write(root / "a.csv", [row(i) for i in range(8)])
    write(root / "b.csv", renamed([row(i) for i in range(8, 16)], "time", "Time"))
    with pytest.raises(UserError, match=r"b\.csv: time_column 'time' is in .*mean 'Time'\?"):
        TableConfig(file=("a.csv", "b.csv")).moments(root, "time")
