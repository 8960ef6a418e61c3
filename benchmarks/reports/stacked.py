"""Tables of many columns on narrow terminals: several under each other, nothing cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

FRAME = 3  # cells around the text of a column
LABEL = 16  # cells in which a long label can still be read


class Column(NamedTuple):
    """Lines end where they should: columns of numbers are never broken elsewhere."""

    head: str
    cells: Sequence[str]

    @property
    def width(self) -> int:
        lines = [line for text in (self.head, *self.cells) for line in text.splitlines()]
        return max(map(cell_len, lines), default=0) + FRAME


def stacked(
    labels: Sequence[Column],
    numbers: Sequence[Column],
    *,
    width: int,
    title: str | None = None,
    caption: str | None = None,
    ends: Sequence[int] = (),
) -> list[Table]:
    """As few tables as show all columns within ``width``, each with the labels; at best one.

    ends: rows after which a section ends.
    """
    room = width - 1 - sum(min(column.width, LABEL + FRAME) for column in labels)
    parts = _parts(numbers, room)
    # As even as the same number of tables can be.
    tried = (_parts(numbers, limit) for limit in range(room))
    parts = next((part for part in tried if len(part) == len(parts)), parts)
    return [
        _table(
            labels,
            part,
            ends,
            title=None if title is None or i else Text(title),
            caption=caption if i == len(parts) - 1 else None,
        )
        for i, part in enumerate(parts)
    ]


def _parts(columns: Sequence[Column], room: int) -> list[list[Column]]:
    parts: list[list[Column]] = [[]]
    for column in columns:
        if parts[-1] and sum(c.width for c in parts[-1]) + column.width > room:
            parts.append([])
        parts[-1].append(column)
    return parts


def _table(
    labels: Sequence[Column], numbers: Sequence[Column], ends: Sequence[int], **around: Any
) -> Table:
    table = Table(**around)
    for column in labels:
        table.add_column(Text(column.head), overflow="fold")
    for column in numbers:
        table.add_column(Text(column.head), justify="right", no_wrap=True)
    rows = zip(*(column.cells for column in (*labels, *numbers)), strict=True)
    for i, cells in enumerate(rows):
        table.add_row(*map(Text, cells), end_section=i in ends)
    return table
