"""A user's own recordings, listed in CSV, TSV, JSON, JSONL or Parquet tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from multimodal.columns import Columns, Slots
from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.extensions import extensions_of
from multimodal.datasets.folder import entries
from multimodal.datasets.moments import Written
from multimodal.datasets.patterns import compiled, group_in
from multimodal.datasets.places import find_files, inside, leads_out, with_ending
from multimodal.datasets.slots import slots_of_cell
from multimodal.datasets.splits import SEEDED, shared_as_told, split_for_streams
from multimodal.datasets.table_cells import column_of
from multimodal.datasets.table_columns import refuse_missing_columns
from multimodal.datasets.table_files import Table, read_columns
from multimodal.datasets.table_labels import Labels, Policy, marked, one_a_row, separated
from multimodal.datasets.table_splits import column_splits, file_splits, matched_splits
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Distinct

DEFAULT_SPLIT_COLUMN = "split"
LISTED = 5  # missing files that a message names


def _is_none(value: object) -> bool:
    return value is None


@DATASETS.register("table")
class TableConfig(DatasetConfig):
    """One row a recording. ``file`` (.csv, .tsv, .json, .jsonl, .parquet) is relative to the root.

    file: one, or several with one below the other; where these have no column of splits and each
    file's name tells one (train.csv, my-val.csv, testSet_2.csv), or else the nearest folder that
    not all of them lie in (train/metadata.csv), that is the split of its rows. A
    .json file is a list of objects, or an object keyed by file, {"a.wav": {"label": "x"}} or
    {"a.wav": "x"}.

    A .csv may be separated by commas, semicolons or tabs, as spreadsheets save it in UTF-8 or
    UTF-16; columns without a name are not read.
    A column that a setting names stands in each of the files, and in each row of a .json or .jsonl
    (null where there is nothing).
    path_column: relative to the root; absolute names and symbolic links must lead into it. Names
    that another system wrote (a backslash, an accent in another Unicode form) find their file.
    label_column: any text; numbers become text; "NA" and "none" are labels like any other.
    Classes are in natural order ("10" follows "9"). label_separator: what stands between several
    labels of a cell (or a list of them in .json, .jsonl and .parquet); an empty cell has none.
    label_columns: instead, a column a label, of 1 (present), 0 or nothing (absent) and -1
    (uncertain). uncertain: what that means. ``u_zeros``: absent. ``u_ones``: present.
    ``u_ignore``: unknown, so that the label is masked. ``u_multi``: a class of its own, "Edema
    (uncertain)". ``u_drop``: the row is left out.
    split_column: train/training, validation/valid/val/dev or test/eval in any case. Where it is
    None, or the table has no column "split", the split is seeded (see ``seeded_split``), by whole
    groups if there are any. split_pattern: instead, a regular expression with one group, searched
    for in the path relative to the root, which matches such a word: "^(train|val|test)/".
    group_column: the speaker, patient or source. group_pattern: instead, a regular expression with
    one group, searched for in a file's name without extension, as of dataset ``folder``.
    allow_missing: leave out rows that name no file; ``medley datasets check`` counts them.
    text_column: transcript, caption or report; may have empty cells, as may ``group_column``.
    slots_column: of spoken requests, JSON in each cell: an object of types and values such as
    {"location": "kitchen"}, or a list of pairs, [["item", "milk"], ["item", "bread"]], which keeps
    an order and may name a type twice; an empty cell has no slots.
    """

    modalities: ClassVar[tuple[str, ...]] = ("speech", "audio", "ecg", "xray", "video")
    summary: ClassVar[str] = (
        "your own recordings, listed in CSV, TSV, JSON, JSONL or Parquet tables"
    )
    licence: ClassVar[str] = "that of your data"
    how_to_get: ClassVar[str] = "Set root to the folder of the recordings and file to the table."

    file: str | Annotated[Distinct, Field(min_length=1)]
    path_column: str = "path"
    label_column: str = "label"
    split_column: str | None = DEFAULT_SPLIT_COLUMN
    group_column: str | None = None
    text_column: str | None = None
    slots_column: str | None = Field(default=None, exclude_if=_is_none)
    modality: str = "speech"
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0
    label_separator: str | None = Field(default=None, min_length=1, exclude_if=_is_none)
    label_columns: Annotated[Distinct, Field(min_length=1)] | None = Field(
        default=None, exclude_if=_is_none
    )
    uncertain: Policy | None = Field(default=None, exclude_if=_is_none)
    split_pattern: str | None = Field(default=None, exclude_if=_is_none)
    group_pattern: str | None = Field(default=None, exclude_if=_is_none)
    allow_missing: bool = Field(default=False, exclude_if=lambda allowed: not allowed)

    @model_validator(mode="after")
    def _one_way_to_tell(self) -> Self:
        if self.label_columns is not None and self.label_separator is not None:
            raise ValueError("give either label_columns or label_separator")
        if self.uncertain is not None and self.label_columns is None:
            raise ValueError("uncertain goes with label_columns")
        if self.group_column is not None and self.group_pattern is not None:
            raise ValueError("give either group_column or group_pattern")
        if self.split_pattern is not None and self.split_column not in (None, DEFAULT_SPLIT_COLUMN):
            raise ValueError("give either split_column or split_pattern")
        return self

    def build(self, root: Path) -> Manifest:
        """UserError names the file and the column or row (data rows count from 1)."""
        manifest = self.build_for_stream(root)
        if manifest.undrawn or manifest.shared:
            raise UserError(manifest.undrawn or manifest.shared)
        return manifest

    def build_for_stream(self, root: Path) -> Manifest:
        entries(root, f"the table {self.file!r} and its recordings")
        table = self._table(root, [column for _, column in self._wanted])
        # Only the default may be absent: another name was written by hand, so it is a slip.
        default = self.split_column == DEFAULT_SPLIT_COLUMN
        optional = DEFAULT_SPLIT_COLUMN if default else None
        refuse_missing_columns(table, self._wanted, optional=optional)
        uids, missing = self._uids(root, table)
        labels = self._labels(table)
        gone = labels.dropped.union(missing)
        rows = [row for row in range(len(table)) if row not in gone] if gone else range(len(table))
        if not rows:
            raise UserError(f"{table.name}: no row is left; uncertain=u_drop leaves out each one.")
        uids = [uids[row] for row in rows]
        groups = self._groups(root, table, rows, uids)
        names, present, unknown = labels.ids(rows)
        splits, rule, undrawn = self._splits(
            root, table, rows, uids, [labels.present[row] for row in rows], groups
        )
        texts, slots = column_of(table, self.text_column, may_be_empty=True), self._slots(table)
        recordings = Columns(
            {
                "uid": uids,
                "path": uids,
                "labels": present,
                "unknown": unknown,
                "split": splits,
                "group": groups,
                "text": [texts[row] for row in rows],
                "slots": None if slots is None else [slots[row] for row in rows],
            },
            root=root,
        )
        return shared_as_told(
            name="table",
            modality=self.modality,
            class_names=names,
            recordings=recordings,
            version="unversioned",
            split_rule=rule,
            root=root,
            notes=_notes(len(table), len(missing), len(labels.dropped)),
            undrawn=undrawn,
        )

    def moments(self, root: Path, column: str | None = None) -> dict[str, Written]:
        """Of a column of the table, which must be named."""
        table = self._table(root, {self.path_column, str(column)})
        if column is None or column not in table.columns:
            raise UserError(
                f"{table.name}: time_column {column!r} must be one of its columns: "
                f"{', '.join(table.columns)}."
            )
        named = ("path_column", self.path_column), ("time_column", column)
        refuse_missing_columns(table, named, optional=None)
        cells = column_of(table, column, may_be_empty=True)
        return {
            uid: Written(cell, f"{table.where(row)}: {column}")
            for row, (uid, cell) in enumerate(zip(self._uids(root, table)[0], cells, strict=True))
        }

    @property
    def _wanted(self) -> list[tuple[str, str | None]]:
        """The columns that are read, and the settings that name them."""
        several = self.label_columns or ()
        return [
            ("path_column", self.path_column),
            *(("label_columns", name) for name in several),
            ("label_column", None if several else self.label_column),
            ("group_column", self.group_column),
            ("text_column", self.text_column),
            ("slots_column", self.slots_column),
            ("split_column", None if self.split_pattern is not None else self.split_column),
        ]

    def _table(self, root: Path, wanted: Iterable[str | None]) -> Table:
        names = [self.file] if isinstance(self.file, str) else self.file
        files = [inside(root, name, f"file {name!r}")[0] for name in names]
        columns = {column for column in wanted if column is not None}
        return read_columns(files, columns, keys=(self.path_column, self.label_column))

    def _uids(self, root: Path, table: Table) -> tuple[list[str], list[int]]:
        """The files' POSIX names relative to the root, and the rows that name none."""
        names = column_of(table, self.path_column)
        found = find_files(root, names)
        endings = extensions_of(self.modality)
        if found.missing and len(endings) == 1:  # WFDB records are called without theirs
            found = with_ending(root, names, found, endings[0])

        def where(row: int) -> str:
            return f"{table.where(row)}: {self.path_column} {names[row]!r}"

        again = _first_again(found.uids)
        if found.outside and (again is None or found.outside[0] < again[1]):
            raise leads_out(root, where(found.outside[0]))
        if again is not None:
            first, row = again
            known = table.where(first, beside=row)
            raise UserError(f"{where(row)} is already in {known}; keep one of them.")
        if found.missing and (not self.allow_missing or len(found.missing) == len(table)):
            more = ", ".join(repr(names[row]) for row in found.missing[1:LISTED])
            more = f": also {more}{', ...' * (len(found.missing) > LISTED)}" if more else ""
            raise UserError(
                f"{where(found.missing[0])} does not exist in {root} ({len(found.missing)} of "
                f"{len(table)} rows name no file{more}); names are relative to root. Set "
                "allow_missing=true to use the rest."
            )
        return found.uids, found.missing

    def _labels(self, table: Table) -> Labels:
        if self.label_columns is not None:
            return marked(table, self.label_columns, self.uncertain)
        if self.label_separator is not None:
            return separated(table, self.label_column, self.label_separator)
        return one_a_row(column_of(table, self.label_column, lists=True))

    def _groups(self, root: Path, table: Table, rows: Sequence[int], uids: list[str]) -> list[str]:
        pattern = compiled("group_pattern", self.group_pattern)
        if pattern is not None:
            return [group_in(pattern, PurePosixPath(uid).stem, root / uid) for uid in uids]
        groups = column_of(table, self.group_column, may_be_empty=True)
        return [groups[row] for row in rows]

    def _slots(self, table: Table) -> list[Slots] | None:
        column = self.slots_column
        if column is None:
            return None
        return [
            slots_of_cell(cell, f"{table.where(row)}: {column}")
            for row, cell in enumerate(table.cells[column])
        ]

    def _splits(
        self,
        root: Path,
        table: Table,
        rows: Sequence[int],
        uids: list[str],
        labels: list[tuple[str, ...]],
        groups: list[str],
    ) -> tuple[list[str], str, str]:
        """A split for each of the rows, the rule in words, and why it serves not every class."""
        if self.split_pattern is not None:
            splits = matched_splits(self.split_pattern, uids)
            return splits, f"named by the path, {self.split_pattern!r}", ""
        if self.split_column is not None and self.split_column in table.columns:
            splits = column_splits(table, self.split_column, rows)
            return splits, f"named by column {self.split_column!r}", ""
        named = file_splits(table, root) if self.split_column is not None else None
        if named is not None:
            return [named[table.file_of(row)] for row in rows], "named by the tables' files", ""
        grouped = self.group_column is not None or self.group_pattern is not None
        kind = f"groups of column {self.group_column!r}, " if self.group_column else ""
        kind = "whole groups, " if self.group_pattern else kind
        single = all(len(names) == 1 for names in set(labels))
        splits, undrawn = split_for_streams(
            uids,
            [names[0] for names in labels] if single else labels,
            groups=groups if grouped else None,
            test_fraction=self.test_fraction,
            seed=self.seed,
        )
        rule = f"{SEEDED}{kind}test_fraction {self.test_fraction:g}, seed {self.seed}"
        return splits, rule, undrawn


def _notes(rows: int, missing: int, dropped: int) -> tuple[str, ...]:
    kinds = (missing, "name no file"), (dropped, "are uncertain")
    return tuple(
        f"{number:,} of {rows:,} rows {what} and were left out" for number, what in kinds if number
    )


def _first_again(uids: list[str]) -> tuple[int, int] | None:
    """The rows of the first name that comes twice, if there is one."""
    if len(set(uids)) == len(uids):
        return None
    seen: dict[str, int] = {}
    return next((seen[uid], row) for row, uid in enumerate(uids) if seen.setdefault(uid, row) < row)
