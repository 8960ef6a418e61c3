"""A user's own recordings, listed in a CSV, TSV, JSONL or Parquet table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries
from multimodal.datasets.moments import Written
from multimodal.datasets.slots import slots_of_cell
from multimodal.datasets.splits import class_order, seeded_split
from multimodal.datasets.table_files import BLANK, Row, inside, read_table, spelled
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, Slots

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
DEFAULT_SPLIT_COLUMN = "split"


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
    slots_column: of spoken requests, JSON in each cell: an object of types and values such as
    {"location": "kitchen"}, or a list of pairs, [["item", "milk"], ["item", "bread"]], which keeps
    an order and may name a type twice; an empty cell has no slots.
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
    slots_column: str | None = Field(default=None, exclude_if=lambda column: column is None)
    modality: str = "speech"
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0

    def build(self, root: Path) -> Manifest:
        """UserError names the file and the column or row (data rows count from 1)."""
        entries(root, f"the table {self.file!r} and its recordings")
        table, _ = inside(root, self.file, f"file {self.file!r}")
        columns, rows = read_table(table)
        self._refuse_missing_columns(table, columns)
        paths = self._paths(root, table, rows)
        labels = _column(table, rows, self.label_column)
        groups = _column(table, rows, self.group_column, may_be_empty=True)
        texts = _column(table, rows, self.text_column, may_be_empty=True)
        slots = self._slots(table, rows)
        splits, rule = self._splits(table, columns, rows, list(paths), labels, groups)
        names = class_order(labels)
        ids = {name: i for i, name in enumerate(names)}
        fields = zip(paths.items(), labels, splits, groups, texts, slots, strict=True)
        return Manifest(
            name="table",
            modality=self.modality,
            class_names=tuple(names),
            recordings=tuple(
                Recording(
                    uid=uid,
                    labels=(ids[label],),
                    split=split,
                    path=path,
                    group=group,
                    text=text,
                    slots=its,
                )
                for (uid, path), label, split, group, text, its in fields
            ),
            version="unversioned",
            split_rule=rule,
            root=root,
        )

    def moments(self, root: Path, column: str | None = None) -> dict[str, Written]:
        """Of a column of the table, which must be named."""
        table, _ = inside(root, self.file, f"file {self.file!r}")
        columns, rows = read_table(table)
        if column is None or column not in columns:
            raise UserError(
                f"{table}: time_column {column!r} must be one of its columns: {', '.join(columns)}."
            )
        cells = _column(table, rows, column, may_be_empty=True)
        return {
            uid: Written(cell, f"{table}, data row {number}: {column}")
            for number, (uid, cell) in enumerate(
                zip(self._paths(root, table, rows), cells, strict=True), start=1
            )
        }

    def _refuse_missing_columns(self, table: Path, columns: list[str]) -> None:
        wanted = {
            "path_column": self.path_column,
            "label_column": self.label_column,
            "group_column": self.group_column,
            "text_column": self.text_column,
            "slots_column": self.slots_column,
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
            path, uid = inside(root, spelled(root, name), where)
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

    def _slots(self, table: Path, rows: list[Row]) -> list[Slots]:
        column = self.slots_column
        if column is None:
            return [()] * len(rows)
        return [
            slots_of_cell(row.get(column), f"{table}, data row {number}: {column}")
            for number, row in enumerate(rows, start=1)
        ]

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
