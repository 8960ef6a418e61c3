"""Cells of a table as text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from multimodal.datasets.table_files import BLANK, Table
from multimodal.errors import UserError

EXACT = 2**53  # beyond, floats do not tell whole numbers apart


def column_of(
    table: Table, column: str | None, *, may_be_empty: bool = False, lists: bool = False
) -> list[str]:
    """The cells of a column as text without outer spaces; "" throughout for column None.

    lists: there is a setting that reads lists, which the message about one names.
    """
    if column is None:
        return [""] * len(table)
    cells = table.cells[column]
    if set(map(type, cells)) != {str}:
        cells = [_text(cell, table, column, row, lists) for row, cell in enumerate(cells)]
    texts = [cell.strip(BLANK) for cell in cells]
    if not may_be_empty and not all(texts):
        where = f"{table.where(texts.index(''))}: {column}"
        raise UserError(f"{where} is empty; fill it in or remove the row.")
    return texts


def text_of(cell: Any) -> str:
    """A cell that is no list; "" for nothing. Whole numbers are written alike, 1.0 as 1.

    Whether a file keeps a column's numbers as floats is chance: one gap makes them that.
    """
    # NaN, the only value that differs from itself, is how Parquet files mark missing numbers.
    if cell is None or cell != cell:
        return ""
    whole = isinstance(cell, float | Decimal) and abs(cell) < EXACT and cell == int(cell)
    return str(int(cell) if whole else cell)


def _text(cell: Any, table: Table, column: str, row: int, lists: bool) -> str:
    if isinstance(cell, list | dict | bytes):
        where = f"{table.where(row)}: {column}"
        raise UserError(
            f"{where} is a {type(cell).__name__}; it must be text or a number."
            + " Set label_separator to read several labels a row." * (lists and type(cell) is list)
        )
    return text_of(cell)
