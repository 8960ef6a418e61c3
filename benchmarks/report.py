"""Tables and one HTML page of finished runs, made from their ``result.json`` files alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.results.metric_names import FACTS, MAIN_METRICS, METRICS, RANKS, STREAM_METRICS
from benchmarks.results.result import Result, write_atomically
from continual.metrics import confidence_interval
from multimodal.errors import UserError

WIDE_CONSOLE = 150
# Config keys that do not change what a seed's numbers are an example of.
REPORT_FILE = "report.html"
NOT_SETTINGS = ("seeds", "data_root", "output_dir", "cache", "tracking")


class Interval(NamedTuple):
    """Mean over seeds, half width of its 95 % interval (None: one seed), number of seeds."""

    mean: float
    half_width: float | None
    seeds: int


@dataclass(frozen=True)
class Row:
    """One learner of a results table.

    learner: its name; where it was run with several settings, followed by those that differ.
    seeds: number of runs. seconds: mean over the runs. values: an interval for each key of
    METRICS (fractions), or None where undefined; those of no stream only where present.
    """

    learner: str
    seeds: int
    seconds: float
    values: dict[str, Interval | None]


def comparable(results: Sequence[Result]) -> list[list[Result]]:
    """Groups that may share a table: same experiment, data, split, scenario, quick or not."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        data = [result.dataset.get(key) for key in ("name", "version", "content_hash")]
        stream = [result.scenario, result.config.get("scenario"), result.modality, result.quick]
        key = json.dumps(
            [result.experiment, data, result.dataset.get("split_rule"), stream], sort_keys=True
        )
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def by_learner(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Row label -> one run a seed, ascending, of comparable results, in the table's order.

    Runs of a learner whose other settings differ are different rows: they are no sample of one
    thing. Of two runs of the same row and seed (a copied folder) the later started counts.
    Order: that in which they were first started, which is the config's.
    Raises UserError if the results are not comparable.
    """
    if len(comparable(results)) != 1:
        raise UserError(
            f"{len(results)} results of {len(comparable(results))} different experiments, data "
            "sets, streams or sizes do not fit one table; give the folder of one of them."
        )
    order = [result.learner for result in sorted(results, key=lambda r: r.started)]
    rows: dict[str, dict[int, Result]] = {}
    for name in dict.fromkeys(order):
        runs = [result for result in results if result.learner == name]
        labels = _labels(name, runs)
        for label, result in sorted(zip(labels, runs, strict=True), key=lambda x: x[1].started):
            rows.setdefault(label, {})[result.seed] = result
    return {label: [runs[seed] for seed in sorted(runs)] for label, runs in rows.items()}


def _labels(name: str, runs: list[Result]) -> list[str]:
    """The learner's name, with the settings in which its runs differ, for each run."""
    settings = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for each in settings for key in each)
    differing = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    labels = []
    for each in settings:
        words = [f"{_short(key, differing)}={each.get(key, 'default')}" for key in differing]
        labels.append(f"{name} ({', '.join(words)})" if words else name)
    return labels


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a dotted key, if that tells it from the others."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key


def _settings(result: Result) -> dict[str, str]:
    """Dotted key -> value in JSON of everything that defines a run but its seed."""
    config = {k: v for k, v in result.config.items() if k not in NOT_SETTINGS}
    entries = config.pop("learners", None) or []
    own = [entry for entry in entries if _learner_name(entry) == result.learner]
    flat: dict[str, str] = {}

    def flatten(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                flatten(part, (*path, str(key)))
        else:
            flat[".".join(path)] = value if isinstance(value, str) else json.dumps(value)

    flatten(config, ())
    for entry in own:
        flatten(entry if isinstance(entry, dict) else {"name": entry}, ("learner",))
    return flat


def _learner_name(entry: object) -> str:
    return str(entry.get("name")) if isinstance(entry, dict) else str(entry)


def interval(values: Sequence[float | None]) -> Interval | None:
    """Mean and 95 % interval of the values that are defined, or None if none is."""
    defined = [float(v) for v in values if v is not None and math.isfinite(v)]
    if not defined:
        return None
    mean, half_width = confidence_interval(defined, level=0.95)
    return Interval(float(mean), half_width, len(defined))


def summarise(results: Sequence[Result]) -> list[Row]:
    """One row per learner of comparable results, over its seeds; UserError otherwise."""
    rows = []
    for label, runs in by_learner(results).items():
        values = {key: interval([run.metrics.get(key) for run in runs]) for key in METRICS}
        always = STREAM_METRICS if runs[0].matrix else ()
        values = {k: v for k, v in values.items() if v is not None or k in always}
        seconds = sum(run.seconds for run in runs) / len(runs)
        rows.append(Row(label, len(runs), seconds, values))
    return rows


def columns(rows: Sequence[Row]) -> list[str]:
    """Metric keys that a table of these rows has: those that some row has."""
    return [key for key in METRICS if any(key in r.values for r in rows)]


def percent(fraction: float) -> str:
    """0.123 -> "12.3", with a true minus sign; never "-0.0"."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}".replace("-", "−")


def interval_text(value: Interval | None, seeds: int, *, key: str = "") -> str:
    """Percent with one decimal, e.g. "61.3 ± 2.1"; "–" for None; says if seeds are missing.

    Ranks are no percent.
    """
    if value is None:
        return "–"
    shown = (lambda x: f"{x:.1f}") if key in RANKS else percent
    exact = value.half_width is None or key in FACTS
    width = "" if exact else f" ± {shown(value.half_width or 0.0)}"
    missing = "" if value.seeds == seeds else f" ({value.seeds} of {seeds} seeds)"
    return shown(value.mean) + width + missing


def data_title(result: Result) -> str:
    """Dataset, version, and the words "synthetic" and "quick" where they apply."""
    dataset = result.dataset
    words = [f"{dataset.get('name', 'unknown data')} {dataset.get('version', '')}".strip()]
    words += ["synthetic"] if dataset.get("synthetic") else []
    words += ["quick"] if result.quick else []
    return ", ".join(words)


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


def short_title(result: Result) -> str:
    """The dataset's name, and the words "synthetic" and "quick" where they apply."""
    name = str(result.dataset.get("name", "unknown data"))
    words = ["synthetic"] if result.dataset.get("synthetic") and "synthetic" not in name else []
    return ", ".join([name, *words, *["quick"] * result.quick])


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


def write_html(results: Sequence[Result], path: Path) -> Path:
    """Write one self-contained page of one experiment's results to the file ``path``.

    Raises UserError if there are results of several experiments, or none.
    """
    from benchmarks.html_report import page

    experiments = sorted({result.experiment for result in results})
    if len(experiments) != 1:
        raise UserError(
            f"a report shows one experiment, not {len(experiments)}"
            f" ({', '.join(experiments) or 'no results'}); give the folder of one of them."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page(results))
    return path
