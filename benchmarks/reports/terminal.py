"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.reports.numbers import interval, interval_text, percent
from benchmarks.reports.tables import (
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


def print_overview(results: Sequence[Result], console: Console) -> None:
    """One table of results on several datasets: a section for each comparable group."""
    caption = "%, mean ± half width of the 95 % interval over seeds"
    if any(result.score != "accuracy" for result in results):
        caption += "; forgetting is of the score beside it"
    table = Table(caption=caption)
    groups = [(group[0], summarise(group)) for group in comparable(results)]
    shown = columns([row for _, rows in groups for row in rows])
    shown = [key for key in shown if key in MAIN_METRICS]
    for name in ("modality", "data", "learner"):
        table.add_column(name, no_wrap=True)
    for key in shown:
        table.add_column(METRICS[key].replace(" ", "\n"), justify="right")
    for first, rows in groups:
        words = [first.modality, short_title(first)]
        for row in rows:
            cells = [interval_text(row.values.get(key), row.seeds, key=key) for key in shown]
            table.add_row(*map(Text, [*words, row.learner]), *cells)
            words = ["", ""]
        table.add_section()
    console.print(table)


def terminal_table(results: Sequence[Result], *, full: bool = False) -> Table:
    """A table of comparable results: the main columns (80 wide) or all of them."""
    rows, first = summarise(results), results[0]
    shown = [key for key in columns(rows) if full or key in MAIN_METRICS]
    split = first.dataset.get("split_rule") or "unknown"
    table = Table(
        title=Text(f"{first.experiment}: {data_title(first)}; split: {split}"),
        caption="%, mean ± half width of the 95 % interval over seeds; seconds: mean of a run",
    )
    table.add_column("learner", overflow="fold")
    for key in shown:
        table.add_column(METRICS[key].replace(" ", "\n"), justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("seconds", justify="right")
    for row in rows:
        cells = [interval_text(row.values.get(key), row.seeds, key=key) for key in shown]
        table.add_row(Text(row.learner), *cells, str(row.seeds), f"{row.seconds:.1f}")
    return table


def print_table(results: Sequence[Result], console: Console) -> None:
    """Print a table for each comparable group; all metrics where the console is wide."""
    for group in comparable(results):
        console.print(terminal_table(group, full=console.width >= WIDE_CONSOLE))


def print_wordings(results: Sequence[Result], out: Console) -> None:
    """Each template alone, one column a model: mean over seeds."""
    learners = by_learner(results)
    found = {
        label: [
            r.evaluation["top1_by_template"] for r in runs if r.evaluation.get("top1_by_template")
        ]
        for label, runs in learners.items()
    }
    found = {label: values for label, values in found.items() if values}
    if not found:
        return
    table = Table(title="zero-shot top-1 accuracy in %, by wording; mean over seeds")
    table.add_column("template", overflow="fold")
    for label in found:
        table.add_column(Text(label), justify="right")
    for template in next(iter(found.values()))[0]:
        cells = [percent(float(np.mean([v[template] for v in vs]))) for vs in found.values()]
        table.add_row(Text(template), *cells)
    table.add_section()
    for key, words in SUMMARY.items():
        means = [interval([r.metrics.get(key) for r in learners[label]]) for label in found]
        if any(means):
            table.add_row(words, *("–" if m is None else percent(m.mean) for m in means))
    out.print(table)
