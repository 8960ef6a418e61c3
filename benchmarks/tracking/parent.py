"""The MLflow run of a whole config, whose cells are its children: what these amount to."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.config.base import CommandConfig
from benchmarks.reports.numbers import interval
from benchmarks.reports.tables import by_learner, comparable, data_title
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.tracking.points import Point, batches_of_params, flat_params
from benchmarks.tracking.state import State, artifact_place, first_line, store_uri
from benchmarks.tracking.store import connect, experiment_id, send_points
from benchmarks.tracking.tracker import resend
from multimodal.credentials import shown

GRID_TAG, PARENT_TAG = "medley.grid", "mlflow.parentRunId"


class Parent:
    """Of a config with several cells; of one with a single cell it does nothing.

    ``update`` may be called after every cell, from any process, and again: the run is found by the
    config's hash. A store that is lost costs one line; the next update sends all that it missed,
    the cells' own runs included.
    """

    def __init__(self, config: CommandConfig) -> None:
        self.config, self.cells, self._told = config, list(config.cells()), False
        self.output_dir = Path(config.output_dir).expanduser()

    def update(self, results: Sequence[Result]) -> None:
        """results: of the cells that are done."""
        if self.config.tracking.store == "none" or len(self.cells) < 2 or not results:
            return
        uri = store_uri(self.config.tracking.uri, self.output_dir)
        try:
            self._update(uri, results)
        except Exception as error:  # whatever the store does, the results stay
            if not self._told:
                self._told = True
                print(
                    f"medley: MLflow at {shown(uri)} failed ({first_line(error, uri)}); the run of "
                    f"{self.config.experiment!r} as a whole is sent with the next cell, or when "
                    "the command is repeated.",
                    file=sys.stderr,
                )

    def _update(self, uri: str, results: Sequence[Result]) -> None:
        client = connect(uri)
        place = artifact_place(uri, self.output_dir)
        experiment = experiment_id(client, self.config.experiment, uri, place)
        run_id = self._found(client, experiment)
        for cell in self.cells:
            self._adopt(client, cell.folder, uri, run_id)
        step, time = len(results), _latest(cell.folder for cell in self.cells)
        send_points(client, run_id, summary_points(results, step=step, time=time))
        self._describe(client, run_id, results)
        for file in (self.config.folder.parent / "report.html",):
            if file.is_file():
                client.log_artifact(run_id, str(file))
        if len(results) == len(self.cells):
            client.set_terminated(run_id, "FINISHED")
        else:
            client.update_run(run_id, "RUNNING")

    def _found(self, client: Any, experiment: str) -> str:
        """The run, made if there is none."""
        own = f"tags.`{GRID_TAG}` = '{self.config.hash}'"
        known = client.search_runs([experiment], own, max_results=1)
        if known:
            return known[0].info.run_id
        tags = {GRID_TAG: self.config.hash, "medley.quick": str(self.config.quick).lower()}
        name = f"{self.config.experiment}: {len(self.cells)} cells"
        run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        for params in batches_of_params(flat_params(self.config.dump())):
            client.log_batch(run_id, params=params)
        client.log_text(run_id, self.config.to_yaml(), "config.yaml")
        return run_id

    def _adopt(self, client: Any, folder: Path, uri: str, run_id: str) -> None:
        """Make a cell's run a child, unless it is one of another grid; send what it lacks."""
        state = State.known(folder)
        if state is None and not (folder / RESULT_FILE).is_file():
            return
        if (state is None or not state.whole) and (folder / RESULT_FILE).is_file():
            resend(folder)
            state = State.known(folder)
        if state is None or not state.run_id or state.uri != shown(uri):
            return
        if PARENT_TAG not in client.get_run(state.run_id).data.tags:
            client.set_tag(state.run_id, PARENT_TAG, run_id)

    def _describe(self, client: Any, run_id: str, results: Sequence[Result]) -> None:
        lines = [f"{len(results)} of {len(self.cells)} cells are done."]
        for group in comparable(results):
            lines += ["", f"**{data_title(group[0])}**, {group[0].scenario}", *_table(group)]
        client.set_tag(run_id, "mlflow.note.content", "\n".join(lines))


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


def _latest(folders: Any) -> int:
    """Milliseconds: when the last result was written, so that sending again changes nothing."""
    files = [folder / RESULT_FILE for folder in folders]
    return max((f.stat().st_mtime_ns // 1_000_000 for f in files if f.is_file()), default=0)
