"""Labels as tables have them: one a row, several in a cell, or a column of 0 and 1 for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from multimodal.datasets.splits import class_order
from multimodal.datasets.table_cells import text_of
from multimodal.datasets.table_files import BLANK, Table
from multimodal.errors import UserError

Policy = Literal["u_zeros", "u_ones", "u_multi", "u_drop", "u_ignore"]
POLICIES = ("u_zeros", "u_ones", "u_multi", "u_drop", "u_ignore")
Names = tuple[str, ...]
PRESENT, ABSENT, UNCERTAIN = "present", "absent", "uncertain"
MARKS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), PRESENT),
    **dict.fromkeys(("0", "0.0", "false", "no", ""), ABSENT),
    **dict.fromkeys(("-1", "-1.0", "u", "uncertain"), UNCERTAIN),
}


class Labels(NamedTuple):
    """Of N rows the names of the classes that are present, and of those that nobody knows.

    classes: all that rows may have, in order. dropped: rows that are left out.
    """

    present: list[Names]
    unknown: list[Names] | None = None
    classes: Names = ()
    dropped: frozenset[int] = frozenset()

    def ids(self, rows: Sequence[int]) -> tuple[Names, list[tuple[int, ...]], list[Any] | None]:
        """Class names, and of these rows the ids of what is present and what is unknown."""
        there = {self.present[row] for row in rows}
        classes = self.classes or class_order([name for names in there for name in names])
        known = {name: i for i, name in enumerate(classes)}

        def numbered(column: list[Names]) -> list[tuple[int, ...]]:
            chosen = [column[row] for row in rows]
            as_ids = {names: tuple(sorted(known[n] for n in names)) for names in set(chosen)}
            return [as_ids[names] for names in chosen]

        unknown = None if self.unknown is None else numbered(self.unknown)
        return tuple(classes), numbered(self.present), unknown


def one_a_row(texts: Sequence[str]) -> Labels:
    """Each text is a label."""
    alone = {text: (text,) for text in set(texts)}
    return Labels([alone[text] for text in texts])


def separated(table: Table, column: str, separator: str) -> Labels:
    """Several labels a cell, or none; a .json, .jsonl or .parquet file may have lists of them."""
    known: dict[tuple[bool, str], Names] = {}
    present = []
    for row, cell in enumerate(table.cells[column]):
        if isinstance(cell, list):
            text, parts = str(cell), cell
        else:
            text = "" if isinstance(cell, dict | bytes) else text_of(cell)
            parts = text.split(separator)
        refused, key = isinstance(cell, dict | bytes), (isinstance(cell, list), text)
        if refused or key not in known:
            if refused or not all(isinstance(p, str | int | float) for p in parts):
                raise UserError(
                    f"{table.where(row)}: {column} {cell!r} holds no labels; write texts with "
                    f"{separator!r} between them."
                )
            known[key] = tuple(
                dict.fromkeys(filter(None, (text_of(p).strip(BLANK) for p in parts)))
            )
        present.append(known[key])
    return Labels(present)


def marked(table: Table, columns: Names, policy: Policy | None) -> Labels:
    """A column a label: 1 present, 0 or nothing absent, -1 uncertain (see ``policy``).

    policy: as CheXpert's readers call them. u_zeros: absent. u_ones: present. u_ignore: unknown,
    so that the label is masked. u_multi: a class of its own, "Edema (uncertain)". u_drop: the row
    is left out. None: UserError, if a value is uncertain.
    """
    if policy == "u_multi" and (again := [n for n in columns if f"{n} (uncertain)" in columns]):
        raise UserError(
            f"label_columns: {f'{again[0]} (uncertain)'!r} is a column, and what uncertain=u_multi "
            f"calls the uncertain values of {again[0]!r}; rename the column."
        )
    doubts = {name: f"{name} (uncertain)" for name in columns} if policy == "u_multi" else {}
    known: dict[Any, str | None] = {}
    seen: dict[tuple[str | None, ...], tuple[Names, Names]] = {}
    present, unknown, dropped = [], [], set[int]()
    for row, cells in enumerate(zip(*(table.cells[name] for name in columns), strict=True)):
        values = tuple(_mark(cell, known) for cell in cells)
        if values not in seen:
            _refuse(table, row, columns, cells, values, policy)
            doubtful = [n for n, v in zip(columns, values, strict=True) if v == UNCERTAIN]
            there = [n for n, v in zip(columns, values, strict=True) if v == PRESENT]
            there += doubtful if policy == "u_ones" else [doubts[n] for n in doubtful if doubts]
            seen[values] = tuple(there), tuple(doubtful if policy == "u_ignore" else ())
        if policy == "u_drop" and UNCERTAIN in values:
            dropped.add(row)
        present.append(seen[values][0])
        unknown.append(seen[values][1])
    return Labels(present, unknown, (*columns, *doubts.values()), frozenset(dropped))


def _mark(cell: Any, known: dict[Any, str | None]) -> str | None:
    """What a cell says; None if it is nothing that one can say there."""
    if isinstance(cell, list | dict):
        return None
    if cell not in known:
        text = "" if cell is None or cell != cell else str(cell).strip(BLANK).lower()
        known[cell] = MARKS.get(text)
    return known[cell]


def _refuse(
    table: Table,
    row: int,
    columns: Names,
    cells: Sequence[Any],
    values: Sequence[str | None],
    policy: Policy | None,
) -> None:
    for name, cell, value in zip(columns, cells, values, strict=True):
        where = f"{table.where(row)}: {name}"
        if value is None:
            raise UserError(
                f"{where} is {cell!r}; a column of label_columns holds 1 (present), 0 or nothing "
                "(absent) and -1 (uncertain)."
            )
        if value == UNCERTAIN and policy is None:
            raise UserError(
                f"{where} is uncertain ({cell!r}); say with uncertain=... what that means: "
                f"{', '.join(POLICIES)}."
            )
