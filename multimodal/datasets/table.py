"""A user's own recordings, listed in a CSV, TSV, JSONL or Parquet table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from multimodal.columns import Columns, Slots
from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries
from multimodal.datasets.moments import Written
from multimodal.datasets.places import find_files, inside, leads_out
from multimodal.datasets.slots import slots_of_cell
from multimodal.datasets.splits import class_order, seeded_split
from multimodal.datasets.table_files import BLANK, Table, read_columns
from multimodal.errors import UserError
from multimodal.recordings import Manifest

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
        table = self._table(root, self._wanted.values())
        self._refuse_missing_columns(table)
        uids = self._uids(root, table)
        labels = _column(table, self.label_column)
        groups = _column(table, self.group_column, may_be_empty=True)
        splits, rule = self._splits(table, uids, labels, groups)
        names = class_order(labels)
        ids = {name: (i,) for i, name in enumerate(names)}
        recordings = Columns(
            {
                "uid": uids,
                "path": uids,
                "labels": [ids[label] for label in labels],
                "split": splits,
                "group": groups,
                "text": _column(table, self.text_column, may_be_empty=True),
                "slots": self._slots(table),
            },
            root=root,
        )
        return Manifest(
            name="table",
            modality=self.modality,
            class_names=tuple(names),
            recordings=recordings,
            version="unversioned",
            split_rule=rule,
            root=root,
        )

    def moments(self, root: Path, column: str | None = None) -> dict[str, Written]:
        """Of a column of the table, which must be named."""
        table = self._table(root, {self.path_column, str(column)})
        if column is None or column not in table.columns:
            raise UserError(
                f"{table.name}: time_column {column!r} must be one of its columns: "
                f"{', '.join(table.columns)}."
            )
        cells = _column(table, column, may_be_empty=True)
        return {
            uid: Written(cell, f"{table.where(row)}: {column}")
            for row, (uid, cell) in enumerate(zip(self._uids(root, table), cells, strict=True))
        }

    @property
    def _wanted(self) -> dict[str, str | None]:
        """The columns that are read, by the settings that name them."""
        return {
            "path_column": self.path_column,
            "label_column": self.label_column,
            "group_column": self.group_column,
            "text_column": self.text_column,
            "slots_column": self.slots_column,
            "split_column": self.split_column,
        }

    def _table(self, root: Path, wanted: Iterable[str | None]) -> Table:
        file, _ = inside(root, self.file, f"file {self.file!r}")
        return read_columns([file], {column for column in wanted if column is not None})

    def _refuse_missing_columns(self, table: Table) -> None:
        # Only the default may be absent: another name was written by hand, so it is a slip.
        problems = [
            f"{table.name}: {setting} {column!r} is not in the table; "
            f"columns: {', '.join(table.columns)}."
            for setting, column in self._wanted.items()
            if column is not None
            and column not in table.columns
            and (setting, column) != ("split_column", DEFAULT_SPLIT_COLUMN)
        ]
        if problems:
            raise UserError("\n".join(problems))

    def _uids(self, root: Path, table: Table) -> list[str]:
        """The files' POSIX names relative to the root, in the order of the rows."""
        names = _column(table, self.path_column)
        found = find_files(root, names)

        def where(row: int) -> str:
            return f"{table.where(row)}: {self.path_column} {names[row]!r}"

        again = _first_again(found.uids)
        if found.outside and (again is None or found.outside[0] < again[1]):
            raise leads_out(root, where(found.outside[0]))
        if again is not None:
            first, row = again
            known = table.where(first, beside=row)
            raise UserError(f"{where(row)} is already in {known}; keep one of them.")
        if found.missing:
            raise UserError(
                f"{where(found.missing[0])} does not exist in {root} ({len(found.missing)} of "
                f"{len(table)} rows name no file); names are relative to root."
            )
        return found.uids

    def _slots(self, table: Table) -> list[Slots] | None:
        column = self.slots_column
        if column is None:
            return None
        return [
            slots_of_cell(cell, f"{table.where(row)}: {column}")
            for row, cell in enumerate(table.cells[column])
        ]

    def _splits(
        self, table: Table, uids: list[str], labels: list[str], groups: list[str]
    ) -> tuple[list[str], str]:
        """A split for each row, and the rule in words."""
        if self.split_column is None or self.split_column not in table.columns:
            kind = f"groups of column {self.group_column!r}, " if self.group_column else ""
            splits = seeded_split(
                uids,
                labels,
                groups=groups if self.group_column else None,
                test_fraction=self.test_fraction,
                seed=self.seed,
            )
            return splits, f"seeded: {kind}test_fraction {self.test_fraction:g}, seed {self.seed}"
        values = _column(table, self.split_column)
        known = {value: SPLIT_NAMES.get(value.lower()) for value in set(values)}
        if None in known.values():
            row = next(row for row, value in enumerate(values) if known[value] is None)
            raise UserError(
                f"{table.where(row)}: {self.split_column} {values[row]!r} is no split; "
                f"valid: {', '.join(SPLIT_NAMES)}."
            )
        return [known[v] or "" for v in values], f"named by column {self.split_column!r}"


def _first_again(uids: list[str]) -> tuple[int, int] | None:
    """The rows of the first name that comes twice, if there is one."""
    if len(set(uids)) == len(uids):
        return None
    seen: dict[str, int] = {}
    return next((seen[uid], row) for row, uid in enumerate(uids) if seen.setdefault(uid, row) < row)


def _column(table: Table, column: str | None, *, may_be_empty: bool = False) -> list[str]:
    """The cells of a column as text without outer spaces; "" throughout for column None."""
    if column is None:
        return [""] * len(table)
    cells = table.cells[column]
    if set(map(type, cells)) != {str}:
        cells = [_text(cell, table, column, row) for row, cell in enumerate(cells)]
    texts = [cell.strip(BLANK) for cell in cells]
    if not may_be_empty and not all(texts):
        where = f"{table.where(texts.index(''))}: {column}"
        raise UserError(f"{where} is empty; fill it in or remove the row.")
    return texts


def _text(cell: Any, table: Table, column: str, row: int) -> str:
    if isinstance(cell, list | dict | bytes):
        where = f"{table.where(row)}: {column}"
        raise UserError(f"{where} is a {type(cell).__name__}; it must be text or a number.")
    # NaN, the only value that differs from itself, is how Parquet files mark missing numbers.
    return "" if cell is None or cell != cell else str(cell)
