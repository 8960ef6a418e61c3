"""The MLflow run of a whole config, whose cells are its children: what these amount to."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.config.base import CommandConfig
from benchmarks.reports.numbers import interval
from benchmarks.reports.tables import by_learner, comparable, data_title
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.tracking.points import Point, batches_of_params, flat_params
from benchmarks.tracking.run import SOURCE
from benchmarks.tracking.state import State, artifact_place, first_line, store_uri
from benchmarks.tracking.store import connect, experiment_id, send_points
from benchmarks.tracking.tracker import resend
from multimodal.credentials import shown

GRID_TAG, PARENT_TAG = "medley.grid", "mlflow.parentRunId"
INTERVAL = 20.0  # seconds between two updates of a run that many cells change
MOST_LETTERS = 8000  # of a description; MLflow cuts what is longer, in the middle of a row


class Parent:
    """Of cells of one experiment; of a single one it does nothing.

    ``update`` may be called after every cell, from any process, and again: the run is found by the
    cells that it is of. A store that is lost costs one line; the next update sends all that it
    missed, the cells' own runs included. text: the config that the cells are of.
    """

    def __init__(self, cells: Sequence[CommandConfig], text: str) -> None:
        self.cells, self.text, self._told, self._next = list(cells), text, False, 0.0
        self.first = self.cells[0]
        self.output_dir = Path(self.first.output_dir).expanduser()
        hashes = json.dumps(sorted(cell.hash for cell in self.cells))
        self.hash = hashlib.sha256(hashes.encode()).hexdigest()[:12]
        self._results: dict[Path, Result] = {}
        self._adopted: set[Path] = set()
        self._sent = ("", 0)  # the run, and of how many results it has the summary

    def update(self, *, ended: bool = False) -> None:
        """Send what became of the cells so far, at most every ``INTERVAL`` seconds. ended: there is
        nothing to come, so do it now.
        """
        if self.first.tracking.store == "none" or len(self.cells) < 2:
            return
        if time.monotonic() < self._next and not ended:
            return
        self._next = time.monotonic() + INTERVAL
        uri = store_uri(self.first.tracking.uri, self.output_dir)
        try:
            self._update(uri, ended=ended)
        except Exception as error:  # whatever the store does, the results stay
            if not self._told:
                self._told = True
                print(
                    f"medley: MLflow at {shown(uri)} failed ({first_line(error, uri)}); what the "
                    f"cells of {self.first.experiment!r} amount to is sent later, or when the "
                    "command is repeated.",
                    file=sys.stderr,
                )

    def _update(self, uri: str, *, ended: bool) -> None:
        for folder in (cell.folder for cell in self.cells):
            if folder not in self._results and (folder / RESULT_FILE).is_file():
                self._results[folder] = load_result(folder / RESULT_FILE)
        results = list(self._results.values())
        if not results:
            return
        client = connect(uri)
        place = artifact_place(uri, self.output_dir)
        experiment = experiment_id(client, self.first.experiment, uri, place)
        run_id = self._found(client, experiment)
        for cell in self.cells:
            if cell.folder not in self._adopted:
                self._adopt(client, cell.folder, uri, run_id)
        if (run_id, len(results)) != self._sent:
            at = _latest(self._results)
            send_points(client, run_id, summary_points(results, step=len(results), time=at))
            client.set_tag(run_id, "mlflow.note.content", self._note(results))
            self._sent = (run_id, len(results))
        report = self.first.folder.parent / "report.html"
        if ended and report.is_file():
            client.log_artifact(run_id, str(report))
        whole = len(results) == len(self.cells)
        if ended or whole:
            client.set_terminated(run_id, "FINISHED" if whole else "FAILED")
        else:
            client.update_run(run_id, "RUNNING")

    def _found(self, client: Any, experiment: str) -> str:
        """The run, made if there is none."""
        known = client.search_runs([experiment], f"tags.`{GRID_TAG}` = '{self.hash}'")
        if known:
            return known[0].info.run_id
        tags = {GRID_TAG: self.hash, "medley.quick": str(self.first.quick).lower(), **SOURCE}
        name = f"{self.first.experiment}: {len(self.cells)} cells"
        run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        for params in batches_of_params(self._common()):
            client.log_batch(run_id, params=params)
        client.log_text(run_id, self.text, "config.yaml")
        return run_id

    def _common(self) -> dict[str, str]:
        """Parameters that are the same in all cells."""
        first, *others = (flat_params(cell.dump()) for cell in self.cells)
        return {k: v for k, v in first.items() if all(o.get(k) == v for o in others)}

    def _adopt(self, client: Any, folder: Path, uri: str, run_id: str) -> None:
        """Make a cell's run a child, unless it is one of another grid; send what it lacks."""
        if not (folder / RESULT_FILE).is_file():
            return
        state = State.known(folder)
        if state is None or not state.whole:
            resend(folder)
            state = State.known(folder)
        child = state.run_id if state is not None and state.uri == shown(uri) else ""
        if child and PARENT_TAG not in client.get_run(child).data.tags:
            client.set_tag(child, PARENT_TAG, run_id)
        self._adopted.add(folder)

    def _note(self, results: Sequence[Result]) -> str:
        lines = [f"{len(results)} of {len(self.cells)} cells are done."]
        for group in comparable(results):
            lines += ["", f"**{data_title(group[0])}**, {group[0].scenario}", *_table(group)]
        return _fitting(lines)


class Parents:
    """Of cells of any experiments: a ``Parent`` for each."""

    def __init__(self, cells: Sequence[CommandConfig], text: str) -> None:
        by_experiment: dict[tuple[str, str], list[CommandConfig]] = {}
        for cell in cells:
            by_experiment.setdefault((cell.output_dir, cell.experiment), []).append(cell)
        self._all = [Parent(own, text) for own in by_experiment.values()]

    def update(self, *, ended: bool = False) -> None:
        for parent in self._all:
            parent.update(ended=ended)


def summary_points(results: Sequence[Result], *, step: int, time: int) -> list[Point]:
    """Of each row and metric over its seeds: mean, standard deviation, half width of the 95 %
    interval (those of several seeds), as "average_accuracy/replay/mean".
    """
    points = []
    for group in comparable(results):
        for label, runs in by_learner(group).items():
            for key, values in _numbers(runs).items():
                told = {"mean": statistics.fmean(values)}
                found = interval(values)
                if len(values) > 1 and found is not None and found.half_width is not None:
                    told |= {"std": statistics.stdev(values), "ci95": found.half_width}
                name = f"{key}/{label}"
                points += [Point(f"{name}/{k}", v, step, time) for k, v in told.items()]
    return points


def _numbers(runs: Sequence[Result]) -> dict[str, list[float]]:
    """Metrics that are single numbers in every run of a row."""
    found: dict[str, list[float]] = {}
    for key in runs[0].metrics:
        values = [run.metrics.get(key) for run in runs]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            found[key] = [float(v) for v in values if v is not None]
    return found


def _table(group: Sequence[Result]) -> list[str]:
    """Markdown: the first metrics of every row."""
    rows = {label: _numbers(runs) for label, runs in by_learner(group).items()}
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))[:4]
    lines = ["", "| | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for label, row in rows.items():
        told = [f"{statistics.fmean(row[k]):.3f}" if k in row else "" for k in keys]
        lines.append(f"| {label} | " + " | ".join(told) + " |")
    return lines


def _fitting(lines: Sequence[str]) -> str:
    """As many whole lines as a description holds, and where the rest is."""
    more = "\n\nThe other rows stand in report.html."
    text = "\n".join(lines)
    if len(text) <= MOST_LETTERS:
        return text
    return text[: text.rindex("\n", 0, MOST_LETTERS - len(more))] + more


def _latest(folders: Iterable[Path]) -> int:
    """Milliseconds: when the last result was written, so that sending again changes nothing."""
    return max((folder / RESULT_FILE).stat().st_mtime_ns // 1_000_000 for folder in folders)
