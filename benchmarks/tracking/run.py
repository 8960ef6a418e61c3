"""One run folder's run in one store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reports.pictures import plots
from benchmarks.results.journal import Journal
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.tracking.flavour import flavour_files
from benchmarks.tracking.points import (
    Point,
    batches,
    batches_of_params,
    description,
    final_points,
    flat_params,
    matrix_tables,
    run_title,
)
from benchmarks.tracking.registered import register_model
from benchmarks.tracking.state import State, artifact_place
from benchmarks.tracking.store import blaming, connect, experiment_id, send_points
from multimodal.credentials import shown

LINES_TAG = "medley.journal_lines"
SOURCE = {"mlflow.source.name": "medley", "mlflow.source.type": "LOCAL"}


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
        with blaming(self.uri, remedy):
            self.client = connect(self.uri, timeout=timeout)
            place = artifact_place(self.uri, self.output_dir)
            self.experiment_id = experiment_id(self.client, state.experiment, self.uri, place)
            run = self._known_run()
            if run is None:
                title = run_title(state.tags, state.config)
                run = self.client.create_run(self.experiment_id, run_name=title)
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
        from mlflow.entities import DatasetInput, RunTag

        run_id, state = run.info.run_id, self.state
        told = {**SOURCE, "mlflow.note.content": description(state.tags, state.config)}
        if "medley.git_commit" in state.tags:
            told["mlflow.source.git.commit"] = state.tags["medley.git_commit"]
        own = {k: v for k, v in told.items() if k not in run.data.tags or k in SOURCE}
        tags = [RunTag(k, v) for k, v in (own | state.tags).items()]
        self.client.log_batch(run_id, tags=tags)
        flat = flat_params(state.config)
        new = {k: v for k, v in flat.items() if k not in run.data.params}
        for params in batches_of_params(new):
            self.client.log_batch(run_id, params=params)
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
            if model["id"] or not path.exists():
                continue
            query = f"name = '{name}' AND source_run_id = '{run_id}'"
            known = self.client.search_logged_models([where], query)
            made = known[0] if known else self.client.create_logged_model(where, name, run_id, tags)
            send = self.client.log_model_artifacts if path.is_dir() else None
            (send or self.client.log_model_artifact)(made.model_id, str(path))
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
        self._make_loadable(result)
        name = (self.state.config.get("tracking") or {}).get("register_as")
        if name and any(model["id"] for model in self.state.models.values()):
            register_model(self.client, self.state, name)

    def _make_loadable(self, result: Result) -> None:
        """Beside the models' own files: what ``mlflow.pyfunc.load_model`` needs to read them."""
        beside = (self.folder / "config.yaml", self.folder / RESULT_FILE)
        for model in self.state.models.values():
            if model["id"] is None:
                continue
            own = () if (self.folder / model["path"]).is_dir() else beside
            with flavour_files(model["id"], self.state.run_id, result.config_hash) as files:
                for file in (*own, *files):
                    if file.is_file():
                        self.client.log_model_artifact(model["id"], str(file))

    def send_files(self, files: Sequence[Path], place: str) -> None:
        """As artifacts below ``place``, of a run that the store has."""
        with blaming(self.uri, "try again later"):
            self.client = connect(self.uri)
            for file in files:
                self.client.log_artifact(self.state.run_id, str(file), place)

    def end(self, status: str) -> None:
        self.client.set_terminated(self.state.run_id, status)
        self.state.save(self.folder, status=status, done=True)
