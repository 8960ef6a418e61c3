"""Splits that a user's table names: in a column, in its files' names, or in those of recordings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from multimodal.datasets.patterns import compiled
from multimodal.datasets.table_cells import column_of
from multimodal.datasets.table_files import Table
from multimodal.errors import UserError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


def column_splits(table: Table, column: str, rows: Sequence[int]) -> list[str]:
    """Of these rows, as a column has them."""
    values = column_of(table, column)
    known = {value: SPLIT_NAMES.get(value.lower()) for value in set(values)}
    if None in known.values():
        row = next(row for row, value in enumerate(values) if known[value] is None)
        raise UserError(
            f"{table.where(row)}: {column} {values[row]!r} is no split; "
            f"valid: {', '.join(SPLIT_NAMES)}."
        )
    return [known[values[row]] or "" for row in rows]


def file_splits(table: Table) -> list[str] | None:
    """The splits that the names of several files tell, None if none does.

    UserError: some do, and others do not, or tell two.
    """
    words = [re.split(r"[^a-z]+", file.stem.lower()) for file in table.files]
    found = [sorted({SPLIT_NAMES[w] for w in ws if w in SPLIT_NAMES}) for ws in words]
    if len(table.files) == 1 or not any(found):
        return None
    for file, splits in zip(table.files, found, strict=True):
        if len(splits) != 1:
            raise UserError(
                f"{file.name} names {' and '.join(splits) or 'no split'}, while other files of "
                "dataset.file are named by theirs; rename it, or give the tables a column 'split'."
            )
    return [splits[0] for splits in found]


def matched_splits(pattern: str, uids: list[str]) -> list[str]:
    """Those that a regular expression finds in names of recordings."""
    regex = compiled("split_pattern", pattern)
    assert regex is not None
    splits = []
    for uid in uids:
        match = regex.search(uid)
        split = SPLIT_NAMES.get((match.group(1) or "").lower()) if match else None
        if split is None:
            raise UserError(
                f"split_pattern {pattern!r} finds no split in {uid!r}; "
                f"valid: {', '.join(SPLIT_NAMES)}."
            )
        splits.append(split)
    return splits
