"""Tables in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.reports.cases import case_parts
from benchmarks.reports.differences import Differences, differences
from benchmarks.reports.items import item_parts
from benchmarks.reports.numbers import interval, interval_text, percent
from benchmarks.reports.overview import overview_tables, overviews
from benchmarks.reports.parts import part_tables
from benchmarks.reports.ranking import ranked
from benchmarks.reports.stacked import Column, stacked
from benchmarks.reports.tables import (
    Row,
    by_learner,
    columns,
    comparable,
    data_title,
    short_title,
    summarise,
)
from benchmarks.results.metric_names import MAIN_METRICS, METRICS
from benchmarks.results.result import Result

SUMMARY = {
    "zero_shot_top1_template_mean": "mean of these",
    "zero_shot_top1_template_min": "min",
    "zero_shot_top1_template_max": "max",
    "zero_shot_top1_template_std": "standard deviation",
    "zero_shot_template_changes": "recordings that wording changes",
    "zero_shot_top1_bare_label": "bare label",
    "zero_shot_top1_ensemble": "ensemble of all",
    "zero_shot_top1_mechanical": "first template, class names for phrases",
}

WIDE_CONSOLE = 150
HEAD_LETTERS = 16


def print_overview(results: Sequence[Result], console: Console) -> None:
    """One table of results on several datasets: a section for each comparable group. Where streams
    share learners, one more, with a row a learner and a column a stream.
    """
    caption = "%, mean ± half width of the 95 % interval over seeds"
    if any(result.score != "accuracy" for result in results):
        caption += "; forgetting is of the score beside it"
    groups = [(group[0], summarise(group)) for group in comparable(results)]
    rows = [row for _, rows in groups for row in rows]
    words, ends = [], []
    for first, own in groups:
        own_words = (first.modality, short_title(first), first.scenario)
        words += [own_words, *[("", "", "")] * (len(own) - 1)]
        ends.append(len(words) - 1)
    labels = [
        Column("modality", [modality for modality, _, _ in words]),
        Column("data", [data for _, data, _ in words]),
        Column("stream", [stream for _, _, stream in words]),
        Column("learner", [row.learner for row in rows]),
    ]
    numbers = _metrics(rows, full=False)
    for table in stacked(labels, numbers, width=console.width, caption=caption, ends=ends):
        console.print(table)
    for table in overview_tables(overviews(results), console.width):
        console.print(table)


def _metrics(rows: Sequence[Row], *, full: bool) -> list[Column]:
    shown = [key for key in columns(rows) if full or key in MAIN_METRICS]
    texts = {
        key: [interval_text(row.values.get(key), row.seeds, key=key) for row in rows]
        for key in shown
    }
    return [Column(_metric_head(key), [_lines(t) for t in cells]) for key, cells in texts.items()]


def _metric_head(key: str) -> str:
    words = METRICS[key]
    most = max(8, *map(len, words.split()))
    return textwrap.fill(words, most, break_on_hyphens=False)


def _lines(cell: str) -> str:
    """What is said of missing seeds stands below the numbers."""
    return cell.replace(" (", "\n(")


def terminal_tables(
    results: Sequence[Result],
    *,
    width: int = WIDE_CONSOLE,
    full: bool = False,
    by: str | None = None,
) -> list[Table]:
    """A table of comparable results, the main metrics or all of them; several if it is too wide.

    by: the metric that rows are sorted by, the best first; None: they stay as they were started.
    """
    rows, first = summarise(results) if by is None else ranked(results, by).rows, results[0]
    split = first.dataset.get("split_rule") or "unknown"
    numbers = [
        *_metrics(rows, full=full),
        Column("seeds", [str(row.seeds) for row in rows]),
        Column("seconds", [f"{row.seconds:.1f}" for row in rows]),
    ]
    return stacked(
        [Column("learner", [row.learner for row in rows])],
        numbers,
        width=width,
        title=f"{first.experiment}: {data_title(first)}; split: {split}",
        caption="%, mean ± half width of the 95 % interval over seeds; seconds: mean of a run",
    )


def print_table(
    results: Sequence[Result],
    console: Console,
    *,
    against: str | Result | None = None,
    by: str | None = None,
) -> None:
    """Print a table for each comparable group; all metrics where the console is wide.

    against: the row that the others are compared with, see ``differences``. by: see
    ``terminal_tables``.
    """
    for group in comparable(results):
        wide = console.width >= WIDE_CONSOLE
        for table in terminal_tables(group, width=console.width, full=wide, by=by):
            console.print(table)
        for table in part_tables([*case_parts(group), *item_parts(group)], console.width):
            console.print(table)
        found = differences(group, against)
        for table in _difference_tables(found, console.width) if found else ():
            console.print(table)


def _difference_tables(found: Differences, width: int) -> list[Table]:
    rows = found.rows
    numbers = [
        Column(_metric_head(key), [_lines(row.text(key)) for row in rows]) for key in found.keys
    ]
    return stacked(
        [Column("learner", [row.row for row in rows])],
        [*numbers, Column("shared\nseeds", [row.seeds_text for row in rows])],
        width=width,
        title=f"difference to {found.reference}",
        caption=found.caption,
    )


def print_wordings(results: Sequence[Result], out: Console) -> None:
    """Each template alone, one column a model: mean over seeds."""
    rows = by_learner(results)
    found = {
        label: [
            r.evaluation["top1_by_template"] for r in runs if r.evaluation.get("top1_by_template")
        ]
        for label, runs in rows.items()
    }
    found = {label: values for label, values in found.items() if values}
    if not found:
        return
    templates = list(dict.fromkeys(t for values in found.values() for v in values for t in v))
    summaries = [key for key in SUMMARY if any(r.metrics.get(key) is not None for r in results)]
    numbers = []
    for label, values in found.items():
        cells = [_mean([v.get(template) for v in values]) for template in templates]
        cells += [_mean([r.metrics.get(key) for r in rows[label]]) for key in summaries]
        numbers.append(Column(textwrap.fill(label, HEAD_LETTERS), cells))
    for table in stacked(
        [Column("template", [*templates, *(SUMMARY[key] for key in summaries)])],
        numbers,
        width=out.width,
        title="zero-shot top-1 accuracy in %, by wording; mean over seeds",
        ends=[len(templates) - 1],
    ):
        out.print(table)


def _mean(values: Sequence[float | None]) -> str:
    mean = interval(values)
    return "–" if mean is None else percent(mean.mean)
