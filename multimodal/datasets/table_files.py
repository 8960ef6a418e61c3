"""Tables that people write: CSV, TSV, JSONL and Parquet."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.datasets.separated_lines import BLANK as BLANK  # also from here
from multimodal.datasets.separated_lines import separated_lines
from multimodal.errors import UserError

Row = Mapping[str, Any]
TABLES: tuple[str, ...] = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
KEYS = ("path", "label")
AT_ONCE = 8192  # rows that are turned into columns together
SHARED = 2**16  # different cells of a column of which equal ones become one object
ABSENT = object()


class Gap(NamedTuple):
    """Where a column is missing: in a whole file (row 0) or a row of it (from 1).

    there: the columns that the file, or the row, has.
    """

    file: Path
    row: int
    there: list[str]


class Part(NamedTuple):
    """One file of a table. lacking: of wanted columns the first row without it, if there is one."""

    file: Path
    columns: list[str]
    cells: dict[str, list[Any]]
    length: int
    lacking: Mapping[str, tuple[int, list[str]]]


class Table:
    """Some columns of one or several files, one below the other.

    files: in their order. columns: the names of all columns of the files. cells: of the wanted
    ones, N values as the files have them; None where a file or a row lacks the column. gaps: the
    first of these places, of each wanted column that has one.
    """

    def __init__(self, parts: Iterable[Part], wanted: Collection[str]) -> None:
        self.files: list[Path] = []
        self.columns: list[str] = []
        self.cells: dict[str, list[Any]] = {}
        self.gaps: dict[str, Gap] = {}
        self._ends: list[int] = []
        for file, columns, cells, length, lacking in parts:
            before = len(self)
            self.files.append(file)
            for name in wanted:
                if name not in columns:
                    self.gaps.setdefault(name, Gap(file, 0, columns))
                elif name in lacking:
                    self.gaps.setdefault(name, Gap(file, *lacking[name]))
            self.columns += [name for name in columns if name not in self.columns]
            self._ends.append(before + length)
            for name in [*self.cells, *(name for name in cells if name not in self.cells)]:
                whole = self.cells.setdefault(name, [None] * before)
                whole.extend(cells.get(name) or [None] * length)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def name(self) -> str:
        """For messages about no single row."""
        return ", ".join(map(str, self.files))

    def file_of(self, row: int) -> int:
        """The place of a row's file among ``files``."""
        return bisect_right(self._ends, row)

    def where(self, row: int, *, beside: int | None = None) -> str:
        """For messages about a row (from 0; data rows count from 1 in each file).

        beside: a row that the message has named, whose file is not named again.
        """
        place = self.file_of(row)
        number = row + 1 - (self._ends[place - 1] if place else 0)
        near = beside is not None and self.file_of(beside) == place
        return f"data row {number}" if near else f"{self.files[place]}, data row {number}"


def read_columns(
    files: Iterable[Path], wanted: Collection[str], *, keys: tuple[str, str] = KEYS
) -> Table:
    """The wanted columns of tables, by the files' endings. UserError: any other file, no rows.

    keys: the columns of the keys of a JSON object, and of its values if they are no objects.
    """
    return Table((_read(file, wanted, keys) for file in files), wanted)


def read_table(table: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows; cells keep their type. UserError: as ``read_columns``."""
    with _opened(table) as kind:
        if kind in (".json", ".jsonl"):
            rows: list[Row] = list(_objects(table) if kind == ".jsonl" else _listed(table, KEYS))
            columns = list(dict.fromkeys(name for row in rows for name in row))
        elif kind == ".parquet":
            columns, data = _parquet(table, None)
            rows = data.to_pylist()
        else:
            named, lines = separated_lines(table, "\t" if kind == ".tsv" else ",")
            rows = [dict(zip(named, line, strict=True)) for line in lines]
            columns = [name for name in named if name]
    _refuse_empty(table, len(rows))
    return columns, rows


def _read(table: Path, wanted: Collection[str], keys: tuple[str, str]) -> Part:
    lacking: dict[str, tuple[int, list[str]]] = {}
    with _opened(table) as kind:
        if kind == ".parquet":
            columns, data = _parquet(table, wanted)
            cells, length = {n: data[n].to_pylist() for n in data.column_names}, data.num_rows
        elif kind in (".json", ".jsonl"):
            rows = _objects(table) if kind == ".jsonl" else _listed(table, keys)
            columns, cells, length = _of_objects(rows, wanted, lacking)
        else:
            named, lines = separated_lines(table, "\t" if kind == ".tsv" else ",")
            places = {name: i for i, name in enumerate(named) if name in wanted}
            columns = [name for name in named if name]
            cells, length = _of_lines(lines, places)
    _refuse_empty(table, length)
    return Part(table, columns, cells, length, lacking)


@contextmanager
def _opened(table: Path) -> Iterator[str]:
    """The ending of a table that is there."""
    kind = table.suffix.lower()
    if kind not in TABLES:
        raise UserError(f"{table}: unknown kind of table; valid: {', '.join(TABLES)}.")
    if not table.is_file():
        raise UserError(f"{table} does not exist; file is relative to root.")
    try:
        yield kind
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error


def _refuse_empty(table: Path, length: int) -> None:
    if not length:
        raise UserError(f"{table} has no rows.")


def _of_lines(
    lines: Iterator[list[str]], places: Mapping[str, int]
) -> tuple[dict[str, list[Any]], int]:
    """Cells of the columns at these places, and the number of rows."""
    cells: dict[str, list[Any]] = {name: [] for name in places}
    known: dict[str, dict[str, str]] = {name: {} for name in places}
    length = 0
    while part := list(islice(lines, AT_ONCE)):
        length += len(part)
        for name, place in places.items():
            own, mine = [line[place] for line in part], known[name]
            # Equal cells become one object; of names that are all different there are too many.
            cells[name].extend(map(mine.setdefault, own, own) if len(mine) < SHARED else own)
    return cells, length


def _objects(table: Path) -> Iterator[dict[str, Any]]:
    with table.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(filter(str.strip, file), start=1):
            where = f"{table}, data row {number}"
            try:
                row = json.loads(line, object_pairs_hook=once)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise UserError(f'{where} is not a JSON object such as {{"path": ...}}.')
            yield row


def _listed(table: Path, keys: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """A list of objects, or an object keyed by file."""
    try:
        data = json.loads(table.read_text("utf-8-sig"), object_pairs_hook=once)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{table} is not JSON: {error}.") from error
    path, label = keys
    if isinstance(data, dict):
        rows = [
            {**value, path: key} if isinstance(value, dict) else {path: key, label: value}
            for key, value in data.items()
        ]
    else:
        rows = data if isinstance(data, list) else [data]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(
                f'{table}, data row {number} is not a JSON object such as {{"path": ...}}; write a '
                "list of objects, or an object keyed by file."
            )
        yield row


def _of_objects(
    rows: Iterator[dict[str, Any]],
    wanted: Collection[str],
    lacking: dict[str, tuple[int, list[str]]],
) -> tuple[list[str], dict[str, list[Any]], int]:
    """All columns, the cells of the wanted ones (None where a row has none), the rows' number.

    lacking: gets the first row (from 1) without a wanted column, and what that has instead.
    """
    columns: dict[str, None] = {}
    cells: dict[str, list[Any]] = {name: [] for name in wanted}
    known: dict[str, dict[str, str]] = {name: {} for name in wanted}
    length = 0
    for row in rows:
        length += 1
        columns.update(dict.fromkeys(row))
        for name, column in cells.items():
            cell, mine = row.get(name, ABSENT), known[name]
            if cell is ABSENT:
                cell = None
                if name not in lacking:
                    lacking[name] = length, list(row)
            if isinstance(cell, str) and len(mine) < SHARED:
                cell = mine.setdefault(cell, cell)
            column.append(cell)
    return list(columns), {name: cells[name] for name in cells if name in columns}, length


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json``: an object whose keys come once; ValueError otherwise."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key occurs twice")
    return row


def _parquet(table: Path, wanted: Collection[str] | None) -> tuple[list[str], Any]:
    """The names of all columns, and a table of the wanted ones (None: all)."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(table)
        columns = file.schema_arrow.names
        if len(set(columns)) < len(columns):
            raise UserError(f"{table}: a column name occurs twice in {', '.join(columns)}.")
        return columns, file.read([c for c in columns if wanted is None or c in wanted])
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{table} cannot be read as Parquet: {error}.") from error
