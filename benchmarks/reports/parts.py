"""Tables beside the one of main metrics, for the terminal and for a page alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from benchmarks.reports.charts import escape, head, scroll
from benchmarks.reports.stacked import Column, stacked


class Part(NamedTuple):
    """rows: (what the row is of, learner). columns: (heading, texts)."""

    title: str
    rows: list[tuple[str, str]]
    columns: list[tuple[str, list[str]]]
    caption: str


def part_tables(parts: Sequence[Part], width: int) -> list[Table]:
    """For the terminal."""
    return [
        table
        for part in parts
        for table in stacked(
            [
                Column("", [words for words, _ in part.rows]),
                Column("learner", [label for _, label in part.rows]),
            ],
            [Column(name, [t.replace(" (", "\n(") for t in own]) for name, own in part.columns],
            width=width,
            title=part.title,
            caption=part.caption,
        )
    ]


def part_html(parts: Sequence[Part]) -> str:
    """For a page."""
    found = []
    for part in parts:
        names = ["", "learner", *(name.replace("\n", " ") for name, _ in part.columns)]
        body = []
        for i, (words, label) in enumerate(part.rows):
            cells = "".join(f"<td>{escape(own[i])}</td>" for _, own in part.columns)
            body.append(f"<tr>{head(words, scope='row')}<td>{escape(label)}</td>{cells}</tr>")
        table = (
            f"<table><caption>{escape(part.caption)}</caption>"
            f"<thead><tr>{''.join(map(head, names))}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table>"
        )
        found.append(f'<h3>{escape(part.title)}</h3><div class="card">{scroll(table, part.title)}')
    return "".join(f"{part}</div>" for part in found)
