"""What is to be named: files, folders and tables -> parts of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multimodal.datasets.extensions import extensions_of
from multimodal.datasets.table_files import TABLES, read_table
from multimodal.errors import UserError
from multimodal.recordings import Recording, printable

COLUMNS = ("path", "start", "duration")


class Part(NamedTuple):
    """Of a file, in seconds; duration None: to its end. name: the file as the user wrote it.
    signal: what gives its signal, where there is no file.
    """

    path: Path
    name: str
    start: float = 0.0
    duration: float | None = None
    signal: Callable[[], Any] | None = None


def parts_of(given: Sequence[str | Path], modality: str) -> list[Part]:
    """Files, all files of folders (and of those below) and rows of tables, each part once.

    A table (.csv, .tsv, .jsonl, .parquet) has a column ``path``, relative to the table's folder,
    and may have ``start`` and ``duration``. A file that does not exist is a part as well, so that
    its row tells. UserError: nothing to name, a folder without a file of the modality, tables that
    cannot be read.
    """
    found = [part for each in given for part in _parts(Path(each), modality)]
    if not found:
        raise UserError("no files to predict: name files, a folder or a table.")
    return list(dict.fromkeys(found))


def _parts(path: Path, modality: str) -> Iterator[Part]:
    if path.is_dir():
        yield from _of_folder(path, modality)
    elif path.suffix.lower() in TABLES:
        yield from _of_table(path)
    else:
        yield Part(path, printable(str(path)))


def _of_folder(folder: Path, modality: str) -> Iterator[Part]:
    wanted = extensions_of(modality)
    files = [
        Path(place, name)
        for place, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(wanted) and not name.startswith(".")
    ]
    if not files:
        raise UserError(
            f"{folder} has no file that the model reads ({modality}: {', '.join(wanted)}), nor has "
            "any folder in it."
        )
    yield from (Part(file, printable(str(file))) for file in files)


def _of_table(table: Path) -> Iterator[Part]:
    columns, rows = read_table(table)
    if COLUMNS[0] not in columns:
        raise UserError(
            f"{table}: no column 'path' in it; columns: {', '.join(columns)}. It may also have "
            "start and duration, in seconds."
        )
    for number, row in enumerate(rows, start=1):
        name = str(row["path"] or "").strip()
        if not name:
            raise UserError(f"{table}, data row {number}: path is empty; remove the row.")
        start, duration = (_seconds(table, number, row, column) for column in COLUMNS[1:])
        yield Part(table.parent / name, name, start or 0.0, duration)


def _seconds(table: Path, number: int, row: object, column: str) -> float | None:
    assert isinstance(row, dict)
    value = row.get(column)
    if value is None or value != value or str(value).strip() == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf") or (column == "duration" and seconds == 0):
        raise UserError(
            f"{table}, data row {number}: {column} {value!r} is no number of seconds; write one "
            "such as 1.5, or leave the cell empty."
        )
    return seconds


def recording_of(part: Part, number: int) -> Recording:
    return Recording(
        uid=f"{number:06d}",
        labels=(0,),
        split="test",
        path=None if part.signal else part.path,
        start=part.start,
        duration=part.duration,
        make=part.signal,
    )


@dataclass(frozen=True, eq=False)
class Given:
    """A signal that is there already."""

    values: np.ndarray

    def __call__(self) -> np.ndarray:
        values = np.asarray(self.values)
        values = values[None] if values.ndim == 1 else values
        return values if values.dtype == np.uint8 else values.astype(np.float32)
