"""Two rows, or two runs, beside each other: the settings that differ, and what they came to."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.reports.differences import differences
from benchmarks.reports.numbers import interval, interval_text
from benchmarks.reports.rows import settings_apart
from benchmarks.reports.tables import by_learner, comparable, data_title
from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import Result
from multimodal.errors import UserError, did_you_mean

FEWEST_LETTERS = 4  # of a hash


def print_comparison(results: Sequence[Result], names: tuple[str, str], out: Console) -> None:
    """names: of two rows of one table, or the (beginnings of) hashes of two runs.

    UserError: no such row or run, or one of them could be several.
    """
    for group in comparable(results):
        rows = by_learner(group)
        if all(name in rows for name in names):
            return _print_sides(names, (rows[names[0]], rows[names[1]]), group, out)
    one, other = (_side(name, results) for name in names)
    _print_sides(names, (one, other), [*one, *other], out)


def _side(name: str, results: Sequence[Result]) -> list[Result]:
    tables = [by_learner(group) for group in comparable(results)]
    found = [rows[name] for rows in tables if name in rows]
    if not found and len(name) >= FEWEST_LETTERS:
        found = [[result] for result in results if result.config_hash.startswith(name)]
    if len(found) > 1:
        raise UserError(
            f"--compare: {name!r} stands in {len(found)} tables here; give an experiment's folder."
        )
    if not found:
        known = list(dict.fromkeys(row for rows in tables for row in rows))
        raise UserError(
            f"--compare: no row {name!r} here, nor a run whose hash begins so"
            f"{did_you_mean(name, known)}"
        )
    return found[0]


def _print_sides(
    names: tuple[str, str],
    sides: tuple[list[Result], list[Result]],
    group: Sequence[Result],
    out: Console,
) -> None:
    first, second = (side[0] for side in sides)
    for name, run in zip(names, (first, second), strict=True):
        words = f"{name}: {run.experiment}, {data_title(run)}, {run.scenario}"
        out.print(words, markup=False, soft_wrap=True, highlight=False)
    apart = settings_apart(first, second)
    table = Table(title="settings that differ", caption=None if apart else "(none)")
    for head in ("setting", *names):
        table.add_column(Text(head), overflow="fold")
    for key, values in apart.items():
        table.add_row(*(Text(v) for v in (key, *values)))
    out.print(table)
    _print_metrics(names, sides, group, out)


def _print_metrics(
    names: tuple[str, str],
    sides: tuple[list[Result], list[Result]],
    group: Sequence[Result],
    out: Console,
) -> None:
    same = len(comparable([*sides[0], *sides[1]])) == 1
    apart = differences(group, names[0]) if same and names[0] in by_learner(group) else None
    row = next((row for row in apart.rows if row.row == names[1]), None) if apart else None
    note = "%, mean ± half width of the 95 % interval over seeds"
    if row is not None:
        note += f"; difference: paired, {row.seeds} shared seeds, percentage points"
    elif not same:
        note += "; other data, streams or sizes: the numbers are no measure of each other"
    table = Table(title="metrics", caption=note)
    for head in ("metric", *names, *[f"{names[1]} − {names[0]}"] * (row is not None)):
        table.add_column(
            Text(head), overflow="fold", justify="left" if head == "metric" else "right"
        )
    for key, words in METRICS.items():
        values = [interval([run.metrics.get(key) for run in side]) for side in sides]
        if any(values):
            cells = [interval_text(v, len(s), key=key) for v, s in zip(values, sides, strict=True)]
            more = [row.text(key) if key in row.values else ""] if row is not None else []
            table.add_row(words, *map(Text, (*cells, *more)))
    out.print(table)
