"""What ``medley runs list`` does: what each run folder is, also those that are not done."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.reports.numbers import interval, interval_text
from benchmarks.reports.ranking import sort_key
from benchmarks.reports.rows import LISTS, labels, row_name
from benchmarks.reports.tables import short_title, summarise
from benchmarks.results.files import load_result
from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.runs.states import CONFIG_FILE, DONE, state_of
from multimodal.digests import DamagedFile
from multimodal.errors import UserError
from multimodal.yaml_limits import load


class Listed(NamedTuple):
    """A run as a line tells it. state: of ``STATES``, or damaged."""

    folder: Path
    learner: str
    data: str
    seed: str
    state: str
    score: str
    started: str


def list_runs(path: Path) -> None:
    """A table of the runs at or below ``path``, by experiment; UserError if there is none."""
    runs = sorted(found_runs(path), key=lambda run: (run.folder.parent, run.started, run.folder))
    if not runs:
        raise UserError(f"{path}: no run in it (no {CONFIG_FILE} and no {RESULT_FILE}).")
    out = Console()
    for folder in dict.fromkeys(run.folder.parent for run in runs):
        table = Table(title=Text(str(folder)), title_justify="left")
        for head in ("hash", "learner", "data", "seed", "state", "main metric"):
            right = head in ("seed", "main metric")
            table.add_column(
                head,
                no_wrap=head in ("hash", "state"),
                overflow="fold",
                justify="right" if right else "left",
            )
        for run in (run for run in runs if run.folder.parent == folder):
            cells = (run.folder.name, run.learner, run.data, run.seed, run.state, run.score)
            table.add_row(*map(Text, cells))
        out.print(table)
    counts = Counter(run.state for run in runs)
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    out.print(f"{len(runs)} runs: {told}.", highlight=False)


def found_runs(path: Path) -> Iterator[Listed]:
    """The folder itself, those of an experiment, or those of an output folder."""
    for pattern in ("", "*/", "*/*/"):
        names = (RESULT_FILE, CONFIG_FILE)
        folders = {file.parent for name in names for file in path.glob(f"{pattern}{name}")}
        for experiment in sorted({folder.parent for folder in folders}):
            yield from _of_experiment(sorted(f for f in folders if f.parent == experiment))
        if folders:
            return


def _of_experiment(folders: list[Path]) -> Iterator[Listed]:
    """Rows of one learner that differ in settings are told apart, as in tables."""
    results: dict[Path, Result] = {}
    for folder in folders:
        if (folder / RESULT_FILE).is_file():
            with contextlib.suppress(DamagedFile):
                results[folder] = load_result(folder / RESULT_FILE)
    names = dict(zip(results, labels(list(results.values())), strict=True))
    for folder in folders:
        if folder in results:
            yield _done(folder, results[folder], names[folder])
        else:
            yield _not_done(folder)


def _not_done(folder: Path) -> Listed:
    """What a folder without a result, or with a damaged one, holds."""
    try:
        config = load((folder / CONFIG_FILE).read_text("utf-8"))
    except (UserError, OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        return Listed(folder, "?", "?", "?", "damaged", "–", "~")
    learner, entry = _learner(config)
    seeds = config.get("seeds") or [config.get("seed", "–")]
    data = _name(config.get("dataset")) + ", quick" * bool(config.get("quick"))
    name = row_name(learner, {"learner": entry, **config} if entry else config)
    state = "damaged" if (folder / RESULT_FILE).exists() else state_of(folder)
    return Listed(folder, name, data, ", ".join(map(str, seeds)), state, "–", "~")


def _done(folder: Path, result: Result, name: str) -> Listed:
    rows = summarise([result])
    key = sort_key(rows)
    value = interval([result.metrics.get(key)])
    score = f"{METRICS[key]} {interval_text(value, 1, key=key)}" if value else "–"
    seed, data = str(result.seed), short_title(result)
    return Listed(folder, name, data, seed, DONE, score, result.started)


def _learner(config: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """The name of what a run trains, or evaluates, and its settings."""
    for key in (*LISTS, *LISTS.values(), "model"):
        entry = config.get(key)
        entry = entry[0] if isinstance(entry, list) and entry else entry
        if entry:
            return _name(entry), entry if isinstance(entry, dict) else {"name": entry}
    return "?", None


def _name(entry: Any) -> str:
    return str(entry.get("name", "?") if isinstance(entry, dict) else entry or "?")
