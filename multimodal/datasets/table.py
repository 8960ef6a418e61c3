"""A user's own recordings, listed in a CSV, TSV, JSONL or Parquet table."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import string
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries
from multimodal.datasets.splits import class_order, seeded_split
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
DEFAULT_SPLIT_COLUMN = "split"
TABLES: tuple[str, ...] = (".csv", ".tsv", ".jsonl", ".parquet")
# What has no width at a cell's ends is as little meant as a space there.
BLANK = string.whitespace + "\u00a0\u200b\u200c\u200d\u2060\ufeff"
Row = Mapping[str, Any]


@DATASETS.register("table")
class TableConfig(DatasetConfig):
    """One row a recording. ``file`` (.csv, .tsv, .jsonl, .parquet) is relative to the root.

    A .csv may be separated by commas, semicolons or tabs, as spreadsheets save it in UTF-8 or
    UTF-16; columns without a name are not read.
    path_column: relative to the root; absolute names and symbolic links must lead into it. Names
    that another system wrote (a backslash, an accent in another Unicode form) find their file.
    label_column: any text; numbers become text; "NA" and "none" are labels like any other.
    Classes are in natural order ("10" follows "9").
    split_column: train/training, validation/valid/val/dev or test/eval in any case. Where it is
    None, or the table has no column "split", the split is seeded (see ``seeded_split``), by whole
    groups if there is a ``group_column`` (speaker, patient, source).
    text_column: transcript, caption or report; may have empty cells, as may ``group_column``.
    """

    modalities: ClassVar[tuple[str, ...]] = ("speech", "audio", "ecg", "xray", "video")
    summary: ClassVar[str] = "your own recordings, listed in a CSV, TSV, JSONL or Parquet table"
    licence: ClassVar[str] = "that of your data"
    how_to_get: ClassVar[str] = "Set root to the folder of the recordings and file to the table."

    file: str
    path_column: str = "path"
    label_column: str = "label"
    split_column: str | None = DEFAULT_SPLIT_COLUMN
    group_column: str | None = None
    text_column: str | None = None
    modality: str = "speech"
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0

    def build(self, root: Path) -> Manifest:
        """UserError names the file and the column or row (data rows count from 1)."""
        entries(root, f"the table {self.file!r} and its recordings")
        table, _ = _inside(root, self.file, f"file {self.file!r}")
        columns, rows = read_table(table)
        self._refuse_missing_columns(table, columns)
        paths = self._paths(root, table, rows)
        labels = _column(table, rows, self.label_column)
        groups = _column(table, rows, self.group_column, may_be_empty=True)
        texts = _column(table, rows, self.text_column, may_be_empty=True)
        splits, rule = self._splits(table, columns, rows, list(paths), labels, groups)
        names = class_order(labels)
        ids = {name: i for i, name in enumerate(names)}
        fields = zip(paths.items(), labels, splits, groups, texts, strict=True)
        return Manifest(
            name="table",
            modality=self.modality,
            class_names=tuple(names),
            recordings=tuple(
                Recording(
                    uid=uid, labels=(ids[label],), split=split, path=path, group=group, text=text
                )
                for (uid, path), label, split, group, text in fields
            ),
            version="unversioned",
            split_rule=rule,
            root=root,
        )

    def _refuse_missing_columns(self, table: Path, columns: list[str]) -> None:
        wanted = {
            "path_column": self.path_column,
            "label_column": self.label_column,
            "group_column": self.group_column,
            "text_column": self.text_column,
        }
        # Only the default may be absent: another name was written by hand, so it is a slip.
        if self.split_column != DEFAULT_SPLIT_COLUMN:
            wanted["split_column"] = self.split_column
        problems = [
            f"{table}: {setting} {column!r} is not in the table; columns: {', '.join(columns)}."
            for setting, column in wanted.items()
            if column is not None and column not in columns
        ]
        if problems:
            raise UserError("\n".join(problems))

    def _paths(self, root: Path, table: Path, rows: list[Row]) -> dict[str, Path]:
        """uid -> file, in the order of the rows."""
        paths: dict[str, Path] = {}
        lines: dict[str, int] = {}
        missing = []
        for number, name in enumerate(_column(table, rows, self.path_column), start=1):
            where = f"{table}, data row {number}: {self.path_column} {name!r}"
            path, uid = _inside(root, _spelled(root, name), where)
            if uid in paths:
                raise UserError(f"{where} is already in data row {lines[uid]}; keep one of them.")
            # Unlike Path.is_file, it does not fail on a name that is too long for a file.
            if not os.path.isfile(path):
                missing.append(where)
            paths[uid], lines[uid] = path, number
        if missing:
            raise UserError(
                f"{missing[0]} does not exist in {root} ({len(missing)} of {len(rows)} rows name "
                "no file); names are relative to root."
            )
        return paths

    def _splits(
        self,
        table: Path,
        columns: list[str],
        rows: list[Row],
        uids: list[str],
        labels: list[str],
        groups: list[str],
    ) -> tuple[list[str], str]:
        """A split for each row, and the rule in words."""
        if self.split_column is None or self.split_column not in columns:
            kind = f"groups of column {self.group_column!r}, " if self.group_column else ""
            splits = seeded_split(
                uids,
                labels,
                groups=groups if self.group_column else None,
                test_fraction=self.test_fraction,
                seed=self.seed,
            )
            return splits, f"seeded: {kind}test_fraction {self.test_fraction:g}, seed {self.seed}"
        values = _column(table, rows, self.split_column)
        for number, value in enumerate(values, start=1):
            if value.lower() not in SPLIT_NAMES:
                raise UserError(
                    f"{table}, data row {number}: {self.split_column} {value!r} is no split; "
                    f"valid: {', '.join(SPLIT_NAMES)}."
                )
        return [SPLIT_NAMES[v.lower()] for v in values], f"named by column {self.split_column!r}"


def _spelled(root: Path, name: str) -> str:
    """``name`` as its file is called: tables are often written on another system."""
    slashes = name.replace("\\", "/")
    forms = (unicodedata.normalize(form, slashes) for form in ("NFC", "NFD"))
    found = (form for form in (name, slashes, *forms) if os.path.exists(root / form))
    try:
        return next(found, name)
    except ValueError:  # a NUL
        return name


def _inside(root: Path, name: str, where: str) -> tuple[Path, str]:
    """(file, its POSIX name relative to root); UserError if it leads out of root."""
    path = Path(os.path.normpath(root.absolute() / name))
    try:
        relative = path.relative_to(os.path.normpath(root.absolute()))
        path.resolve().relative_to(root.resolve())
    except (ValueError, RuntimeError) as error:  # RuntimeError: links that form a ring
        raise UserError(f"{where} leads out of the data root {root}; move it inside.") from error
    return root / relative, relative.as_posix()


def _column(
    table: Path, rows: list[Row], column: str | None, *, may_be_empty: bool = False
) -> list[str]:
    """The cells of a column as text without outer spaces; "" throughout for column None."""
    if column is None:
        return [""] * len(rows)
    cells = []
    for number, row in enumerate(rows, start=1):
        value = row.get(column)
        where = f"{table}, data row {number}: {column}"
        if isinstance(value, list | dict | bytes):
            raise UserError(f"{where} is a {type(value).__name__}; it must be text or a number.")
        # NaN, the only value that differs from itself, is how Parquet files mark missing numbers.
        text = "" if value is None or value != value else str(value).strip(BLANK)
        if not text and not may_be_empty:
            raise UserError(f"{where} is empty; fill it in or remove the row.")
        cells.append(text)
    return cells


def read_table(table: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows; cells keep their type. UserError: absent, damaged or empty."""
    readers = (lambda p: _read_separated(p, ","), lambda p: _read_separated(p, "\t"))
    by_kind = dict(zip(TABLES, (*readers, _read_jsonl, _read_parquet), strict=True))
    reader = by_kind.get(table.suffix.lower())
    if reader is None:
        raise UserError(f"{table}: unknown kind of table; valid: {', '.join(TABLES)}.")
    if not table.is_file():
        raise UserError(f"{table} does not exist; file is relative to root.")
    try:
        columns, rows = reader(table)
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    if not rows:
        raise UserError(f"{table} has no rows.")
    return columns, rows


def _read_separated(table: Path, delimiter: str) -> tuple[list[str], list[Row]]:
    data = table.read_bytes()
    # Spreadsheets write a byte order mark, which would become part of a column's name.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if wide else "utf-8-sig")
    first = text.split("\n", 1)[0].strip()
    if first.lower().startswith("sep=") and len(first) == 5:  # a spreadsheet's own mark
        delimiter, text = first[4], text.partition("\n")[2]
    elif delimiter not in first:
        delimiter = next((d for d in ";\t" if d in first), delimiter)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise UserError(f"{table} cannot be read as a table: {error}.") from error
    if not lines:
        raise UserError(f"{table} is empty; its first line must name the columns.")
    columns = [name.strip(BLANK) for name in lines[0]]
    if len(set(filter(None, columns))) < len(list(filter(None, columns))):
        raise UserError(f"{table}: a column name occurs twice in {', '.join(columns)}.")
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(columns):
            raise UserError(
                f"{table}, data row {number}: {len(line)} cells for {len(columns)} columns; "
                'put cells that contain the separator in double quotes ("a, b").'
            )
    rows: list[Row] = [dict(zip(columns, line, strict=True)) for line in lines[1:]]
    return [name for name in columns if name], rows


def _read_jsonl(table: Path) -> tuple[list[str], list[Row]]:
    rows: list[Row] = []
    with table.open(encoding="utf-8-sig") as file:
        for line in filter(str.strip, file):
            where = f"{table}, data row {len(rows) + 1}"
            try:
                row = json.loads(line, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise UserError(f'{where} is not a JSON object such as {{"path": ...}}.')
            rows.append(row)
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key occurs twice")
    return row


def _read_parquet(table: Path) -> tuple[list[str], list[Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        data = pyarrow.parquet.read_table(table)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{table} cannot be read as Parquet: {error}.") from error
    if len(set(data.column_names)) < data.num_columns:
        raise UserError(f"{table}: a column name occurs twice in {', '.join(data.column_names)}.")
    return data.column_names, data.to_pylist()
