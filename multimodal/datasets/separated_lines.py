"""Lines of cells as spreadsheets save them, separated by commas, semicolons or tabs."""

from __future__ import annotations

import codecs
import csv
import string
from collections.abc import Iterator
from pathlib import Path

from multimodal.errors import UserError

# What has no width at a cell's ends is as little meant as a space there.
BLANK = string.whitespace + "\u00a0\u200b\u200c\u200d\u2060\ufeff"


def separated_lines(table: Path, delimiter: str) -> tuple[list[str], Iterator[list[str]]]:
    """The columns, and the rows as they are read."""
    lines = _cells(table, delimiter)
    header = next(lines, None)
    if header is None:
        raise UserError(f"{table} is empty; its first line must name the columns.")
    columns = [name.strip(BLANK) for name in header]
    if len(set(filter(None, columns))) < len(list(filter(None, columns))):
        raise UserError(f"{table}: a column name occurs twice in {', '.join(columns)}.")
    return columns, _of_length(lines, table, len(columns))


def _cells(table: Path, delimiter: str) -> Iterator[list[str]]:
    with table.open("rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    # Spreadsheets write a byte order mark, which would become part of a column's name.
    with table.open(newline="", encoding="utf-16" if wide else "utf-8-sig") as file:
        first = file.readline().strip()
        if first.lower().startswith("sep=") and len(first) == 5:  # a spreadsheet's own mark
            delimiter = first[4]
        else:
            file.seek(0)
            if delimiter not in first:
                delimiter = next((d for d in ";\t" if d in first), delimiter)
        try:
            yield from filter(None, csv.reader(file, delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise UserError(f"{table} cannot be read as a table: {error}.") from error


def _of_length(lines: Iterator[list[str]], table: Path, length: int) -> Iterator[list[str]]:
    for number, line in enumerate(lines, start=1):
        if len(line) != length:
            raise UserError(
                f"{table}, data row {number}: {len(line)} cells for {length} columns; "
                'put cells that contain the separator in double quotes ("a, b").'
            )
        yield line
