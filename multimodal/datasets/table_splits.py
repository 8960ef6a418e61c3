"""Splits that a user's table names: in a column, in its files' names, or in those of recordings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from multimodal.datasets.patterns import compiled
from multimodal.datasets.table_cells import column_of
from multimodal.datasets.table_files import Table
from multimodal.errors import UserError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
# What may stand behind such a word in the name of a file or folder: "trainset", "valdata".
BEHIND = re.compile(r"(?<=[a-z]{3})_?(sets?|data|splits?|list|files?|part|labels|meta|metadata)$")


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


def file_splits(table: Table, root: Path) -> list[str] | None:
    """The splits that the names of several files tell, or of their folders; None if none does.

    A file's own name counts first ("train.csv", "my-val", "testSet_2"), then the nearest folder
    ("train/metadata.csv"), up to those that all of the files lie in. UserError: some files tell
    one, and others do not, or tell two.
    """
    names = [file.relative_to(root).with_suffix("").parts for file in table.files]
    levels = zip(*(parts[:-1] for parts in names), strict=False)
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    found = [_told(parts[shared:]) for parts in names]
    if len(table.files) == 1 or not any(found):
        return None
    for file, splits in zip(table.files, found, strict=True):
        if len(splits) != 1:
            raise UserError(
                f"{file.relative_to(root)} names {' and '.join(splits) or 'no split'}, while other "
                "files of dataset.file are named by theirs, or lie in folders that are; rename it, "
                "or give the tables a column 'split'."
            )
    return [splits[0] for splits in found]


def _told(parts: Sequence[str]) -> list[str]:
    """The splits that the last of these parts tells which tells any."""
    for part in reversed(parts):
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", part)  # "trainSet" is two words
        splits = {SPLIT_NAMES.get(BEHIND.sub("", word.lower())) for word in words}
        if told := sorted(split for split in splits if split):
            return told
    return []


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
