"""Tables that people write: CSV, TSV, JSONL and Parquet."""

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
from typing import Any

from multimodal.errors import UserError

# What has no width at a cell's ends is as little meant as a space there.
BLANK = string.whitespace + "\u00a0\u200b\u200c\u200d\u2060\ufeff"
Row = Mapping[str, Any]
TABLES: tuple[str, ...] = (".csv", ".tsv", ".jsonl", ".parquet")


def read_table(table: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows, by the file's ending; cells keep their type. UserError: any other file."""
    separated = (lambda p: _read_separated(p, ","), lambda p: _read_separated(p, "\t"))
    readers = dict(zip(TABLES, (*separated, _read_jsonl, _read_parquet), strict=True))
    reader = readers.get(table.suffix.lower())
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
                row = json.loads(line, object_pairs_hook=once)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise UserError(f'{where} is not a JSON object such as {{"path": ...}}.')
            rows.append(row)
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def spelled(root: Path, name: str) -> str:
    """``name`` as its file is called: tables are often written on another system."""
    slashes = name.replace("\\", "/")
    forms = (unicodedata.normalize(form, slashes) for form in ("NFC", "NFD"))
    found = (form for form in (name, slashes, *forms) if os.path.exists(root / form))
    try:
        return next(found, name)
    except ValueError:  # a NUL
        return name


def inside(root: Path, name: str, where: str) -> tuple[Path, str]:
    """(file, its POSIX name relative to root); UserError if it leads out of root."""
    path = Path(os.path.normpath(root.absolute() / name))
    try:
        relative = path.relative_to(os.path.normpath(root.absolute()))
        path.resolve().relative_to(root.resolve())
    except (ValueError, RuntimeError) as error:  # RuntimeError: links that form a ring
        raise UserError(f"{where} leads out of the data root {root}; move it inside.") from error
    return root / relative, relative.as_posix()


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json``: an object whose keys come once; ValueError otherwise."""
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
