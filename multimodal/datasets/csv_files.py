"""Tables of official datasets: CSV files, plain or gzipped, every cell as it is written."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from multimodal.errors import UserError


def csv_rows(
    table: Path, columns: Sequence[str], *, others: bool = False, repeated: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file, read as it is asked for.

    columns: exactly these, in this order; with ``others`` these must be among the columns. With
    ``repeated`` a name may come again: it is name.1, name.2, ... then, as data frames call it. A
    file that ends in .gz is unpacked. A quoted cell may hold commas and line ends; "none" and "NA"
    are text like any other. UserError: other columns, a row with too few or too many cells, not
    UTF-8, damaged.
    """
    try:
        with _opened(table) as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if repeated:
                header = _numbered(header)
            _refuse_columns(table, header, columns, others=others)
            for line in filter(None, reader):
                if len(line) != len(header):
                    kind = "few" if len(line) < len(header) else "many"
                    raise UserError(
                        f"{table}, line {reader.line_num}: too {kind} columns, {len(line)} cells "
                        f"for {len(header)} columns; restore the official file."
                    )
                yield reader.line_num, dict(zip(header, line, strict=True))
    except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{table} cannot be read as a CSV file: {error}.") from error


def _opened(table: Path) -> TextIO:
    if table.suffix == ".gz":
        return gzip.open(table, "rt", newline="", encoding="utf-8-sig")
    return table.open(newline="", encoding="utf-8-sig")


def _numbered(header: list[str]) -> list[str]:
    before = [header[:place].count(name) for place, name in enumerate(header)]
    return [f"{n}.{number}" if number else n for n, number in zip(header, before, strict=True)]


def _refuse_columns(
    table: Path, header: list[str], columns: Sequence[str], *, others: bool
) -> None:
    if not others and header != list(columns):
        found = ",".join(header) or "an empty file"
        raise UserError(f"{table}: expected the columns {','.join(columns)}; found {found}.")
    missing = [name for name in columns if name not in header]
    if missing:
        found = ", ".join(header) or "an empty file"
        raise UserError(f"{table}: there is no column {missing[0]!r}; found {found}.")
