"""That each column which a setting names stands in each of a user's tables, and in each row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from multimodal.datasets.table_files import Gap, Table
from multimodal.errors import UserError

Named = tuple[str, str | None]  # a setting and its column


def refuse_missing_columns(table: Table, named: Sequence[Named], *, optional: str | None) -> None:
    """UserError, a line each: columns that stand in no file, or not in each file or row.

    Without a word, rows of another file would lose their labels, groups or texts because it spells
    a column otherwise. optional: a column that may stand in no file.
    """
    wanted = {column for _, column in named if column is not None}
    problems = []
    for setting, column in named:
        if column is None:
            continue
        if column in table.columns:
            gap = table.gaps.get(column)
            if gap is not None:
                problems.append(_of(gap, setting, column, wanted))
        elif column != optional:
            problems.append(
                f"{table.name}: {setting} {column!r} is not in the table"
                f"{_near(column, table.columns, wanted)}; columns: {', '.join(table.columns)}."
            )
    if problems:
        raise UserError("\n".join(problems))


def _of(gap: Gap, setting: str, column: str, wanted: Collection[str]) -> str:
    near = _near(column, gap.there, wanted)
    if gap.row:
        return (
            f"{gap.file}, data row {gap.row}: it has no {column!r}, which {setting} names"
            f"{near}; write it, or null where there is nothing."
        )
    return (
        f"{gap.file}: {setting} {column!r} is in other files of the table and not in this one"
        f"{near}; columns: {', '.join(gap.there)}."
    )


def _near(column: str, names: Sequence[str], wanted: Collection[str]) -> str:
    """Words for another spelling, which no setting names."""
    others = {name.strip().casefold(): name for name in names if name not in wanted}
    found = get_close_matches(column.strip().casefold(), others, n=1, cutoff=0.7)
    return f"; did you mean {others[found[0]]!r}?" if found else ""
