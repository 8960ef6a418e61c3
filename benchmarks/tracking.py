"""MLflow: where runs can be looked at and compared. The run folder stays the source of truth.

Everything is sent so that sending again changes nothing, which is what makes resuming and
``resend`` safe: the store itself keeps, as a run tag, how many lines of the journal it has.
No samples and no recording ids are sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.background import MLflowTracker, NullTracker, Tracker, send_missing
from benchmarks.config.base import TrackingConfig
from benchmarks.reports.pictures import plots
from benchmarks.results.journal import Journal
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.tracking_data import (
    MAX_METRICS,
    TRACKING_FILE,
    Point,
    State,
    artifact_place,
    batches,
    default_uri,
    final_points,
    first_line,
    flat_params,
    matrix_tables,
    metric_name,
    run_title,
    shown,
)
from multimodal.errors import UserError

LINES_TAG = "medley.journal_lines"
MAX_PARAMS = 100  # MLflow's limit a batch


def make_tracker(
    config: TrackingConfig, *, experiment: str, folder: Path, output_dir: Path
) -> Tracker:
    """The tracker of the run in ``folder``; SQLite and artifacts go to ``output_dir``."""
    if config.store == "none":
        return NullTracker()
    state = State.load(folder) or State("", experiment)
    uri = config.uri or default_uri(output_dir)
    run = MLflowRun(folder, state, uri=uri, output_dir=output_dir)
    return MLflowTracker(run, log_models=config.log_models, system_metrics=config.system_metrics)


def resend(folder: Path, *, uri: str | None = None) -> str:
    """Send what the store lacks of one run folder; says what that was. May be repeated.

    uri: None means where the run went, else MLFLOW_TRACKING_URI, else SQLite beside the runs.
    UserError if the folder is not a run's or the store fails.
    """
    result = Result.load(folder) if (folder / RESULT_FILE).is_file() else None
    state = State.load(folder) or (State.of(result, folder) if result else None)
    if state is None:
        raise UserError(f"{folder}: no {TRACKING_FILE} and no {RESULT_FILE}; give a run's folder.")
    output_dir = folder.resolve().parent.parent
    recorded = "" if "***" in state.uri else state.uri  # a password is needed again
    uri = uri or recorded or default_uri(output_dir)
    run = MLflowRun(folder, state, uri=uri, output_dir=output_dir)
    run.open("give another uri", timeout=60)
    with _blaming(uri, "try again later"):
        sent = send_missing(run, result)
    return f"{folder}: sent {sent} to {shown(uri)} (run {state.run_id})"


def connect(uri: str, *, timeout: int = 5) -> Any:
    """MLflow's client. Sets, where the user has not: HTTP timeout in seconds, one retry, no
    telemetry. Keeps links and the talk of database migrations off the terminal."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri)


def check_store(config: TrackingConfig, output_dir: Path) -> None:
    """UserError if tracking is on and the store cannot be reached."""
    if config.store == "mlflow":
        uri = config.uri or default_uri(output_dir)
        with _blaming(uri, "fix tracking.uri, or set tracking.store=none"):
            connect(uri).search_experiments(max_results=1)


def open_run(uri: str, *, experiment: str) -> str:
    """A new run's id. UserError if the store cannot be reached."""
    with _blaming(uri, "give another uri"):
        client = connect(uri)
        run = client.create_run(_experiment_id(client, experiment, uri, None))
        return run.info.run_id


def send_points(
    client: Any,
    run_id: str,
    points: Sequence[Point],
    *,
    tags: dict[str, str] | None = None,
    model_id: str | None = None,
) -> None:
    """Send metric values in batches of at most 1000, ``tags`` with the last one.

    Sending a point again changes nothing: MLflow's key is (name, value, step, time).
    """
    from mlflow.entities import Metric, RunTag

    metrics = [
        Metric(metric_name(p.name), p.value, p.time, p.step, model_id=model_id) for p in points
    ]
    run_tags = [RunTag(k, v) for k, v in (tags or {}).items()]
    for start in range(0, max(len(metrics), 1), MAX_METRICS):
        last = start + MAX_METRICS >= len(metrics)
        client.log_batch(
            run_id, metrics[start : start + MAX_METRICS], tags=run_tags if last else ()
        )


@contextlib.contextmanager
def _blaming(uri: str, remedy: str) -> Iterator[None]:
    """Whatever fails inside becomes a UserError that names the store and the remedy."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow store {shown(uri)} failed ({first_line(error)}); {remedy}."
        ) from error


def _experiment_id(client: Any, name: str, uri: str, place: str | None) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=place)
        except MlflowException:  # another process may have made it just now
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"MLflow experiment {name!r} was deleted in {shown(uri)}; restore it with `mlflow "
            f"experiments restore -x {experiment.experiment_id}`, or change `experiment`."
        )
    return experiment.experiment_id


class MLflowRun:
    """One run folder's run in one store. Every method may be repeated; MLflow's errors pass."""

    def __init__(self, folder: Path, state: State, *, uri: str, output_dir: Path) -> None:
        self.folder, self.state, self.uri, self.output_dir = folder, state, uri, output_dir
        self._at: tuple[int, int] | None = None

    def open(self, remedy: str, *, resume: bool = False, timeout: int = 5) -> None:
        """Find the run again or make it, and describe it. UserError with ``remedy`` if not.

        resume: it is RUNNING from now on, whatever became of it before.
        """
        state = self.state
        with _blaming(self.uri, remedy):
            self.client = connect(self.uri, timeout=timeout)
            place = artifact_place(self.uri, self.output_dir)
            self.experiment_id = _experiment_id(self.client, state.experiment, self.uri, place)
            run = self._known_run()
            if run is None:
                run = self.client.create_run(self.experiment_id, run_name=run_title(state.tags))
                state.done = False
                for model in state.models.values():
                    model["id"] = None
            elif resume:
                self.client.update_run(run.info.run_id, "RUNNING")
                state.done, state.status = False, "RUNNING"
            lines = int(run.data.tags.get(LINES_TAG, 0))
            where = {"uri": shown(self.uri), "run_id": run.info.run_id}
            state.save(self.folder, sent_lines=lines, **where)
            self._describe(run)

    def _known_run(self) -> Any:
        from mlflow.exceptions import MlflowException

        if not self.state.run_id or self.state.uri != shown(self.uri):
            return None
        try:
            run = self.client.get_run(self.state.run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _describe(self, run: Any) -> None:
        import yaml
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, Param, RunTag

        run_id, state = run.info.run_id, self.state
        tags = [RunTag(k, v) for k, v in state.tags.items()]
        self.client.log_batch(run_id, tags=tags)
        flat = flat_params(state.config)
        params = [Param(k, v) for k, v in flat.items() if k not in run.data.params]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(run_id, params=params[start : start + MAX_PARAMS])
        text = yaml.safe_dump(state.config, sort_keys=False, allow_unicode=True)
        self.client.log_text(run_id, text, "config.yaml")
        if state.dataset and not run.inputs.dataset_inputs:
            keys = ("version", "split_rule", "licence", "synthetic", "group_overlap")
            source = CodeDatasetSource({k: state.dataset[k] for k in keys if k in state.dataset})
            digest = str(state.dataset.get("content_hash", ""))[:36] or None
            data = MetaDataset(source, name=state.dataset.get("name"), digest=digest)
            self.client.log_inputs(run_id, [DatasetInput(data._to_mlflow_entity())])

    def send_lines(self, journal: Journal) -> int:
        """Number of lines sent. Lines are counted, so lines that a resumed run writes again
        (exact resume writes the same ones) are not sent again."""
        offset, known = self._at or journal.after_line(self.state.sent_lines)
        self._at, total = None, 0
        while True:
            lines, end = journal.read_from(offset)
            if end == offset:
                self._at = offset, known
                return total
            new = lines[known:]
            for count, points in batches(new):
                sent = self.state.sent_lines + count
                send_points(self.client, self.state.run_id, points, tags={LINES_TAG: str(sent)})
                last = max(self.state.last_step, *(p.step for p in points), 0)
                self.state.save(self.folder, sent_lines=sent, last_step=last)
            offset, known, total = end, known - (len(lines) - len(new)), total + len(new)

    def send_models(self) -> int:
        """Number of models sent; a file that is gone is passed over."""
        from mlflow.entities import LoggedModelOutput

        where, tags, run_id, total = self.experiment_id, self.state.tags, self.state.run_id, 0
        for name, model in list(self.state.models.items()):
            path = self.folder / model["path"]
            if model["id"] or not path.is_file():
                continue
            query = f"name = '{name}' AND source_run_id = '{run_id}'"
            known = self.client.search_logged_models([where], query)
            made = known[0] if known else self.client.create_logged_model(where, name, run_id, tags)
            self.client.log_model_artifact(made.model_id, str(path))
            step = model["step"]
            points = [Point(k, v, step, model["time"]) for k, v in model["metrics"].items()]
            send_points(self.client, run_id, points, model_id=made.model_id)
            outputs = self.client.get_run(run_id).outputs
            if made.model_id not in [o.model_id for o in outputs.model_outputs]:
                self.client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step)])
            self.client.finalize_logged_model(made.model_id, "READY")
            model["id"] = made.model_id
            self.state.save(self.folder)
            total += 1
        return total

    def watch_system(self) -> Callable[[], None]:
        """Start MLflow's monitor of this machine; the function returned stops it."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            self.state.run_id, resume_logging=True, tracking_uri=self.uri
        )
        monitor.start()
        return monitor.finish

    def send_result(self, result: Result, files: Sequence[Path]) -> None:
        """Final metrics, the accuracy matrix as table, plots, ``result.json`` and ``files``."""
        run_id, path = self.state.run_id, self.folder / RESULT_FILE
        step = max(self.state.last_step, len(self.state.models))  # later than all others
        at = path.stat().st_mtime_ns // 1_000_000  # the same whenever it is sent
        send_points(self.client, run_id, final_points(result, step=step, time=at))
        there = [file.path for file in self.client.list_artifacts(run_id)]
        for file, table in matrix_tables(result):
            if file not in there:  # log_table would append to it
                self.client.log_table(run_id, table, file)
        if result.stream:
            self.client.log_dict(run_id, result.stream, "stream.json")
        for name, figure in plots(result):
            self.client.log_figure(run_id, figure, name)
        for file in (path, *(f for f in files if f.is_file())):
            self.client.log_artifact(run_id, str(file))

    def end(self, status: str) -> None:
        self.client.set_terminated(self.state.run_id, status)
        self.state.save(self.folder, status=status, done=True)
