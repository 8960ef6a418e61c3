"""How a run is tracked without waiting for the store: from a thread of its own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.config.base import TrackingConfig
from benchmarks.results.journal import JOURNAL_FILE, Journal
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.tracking.run import MLflowRun
from benchmarks.tracking.state import TRACKING_FILE, State, first_line, recorded_uri, store_uri
from benchmarks.tracking.store import blaming
from multimodal.credentials import shown
from multimodal.errors import UserError

INTERVAL = 2.0  # seconds between two shipments
OTHER = (
    "give another uri; credentials of servers are read from MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD"
)
REMEDY = "fix tracking.uri (or MLFLOW_TRACKING_URI), or set tracking.store=none"
PATIENCE = 30.0  # seconds before a lost store is tried again


class Tracker(Protocol):
    """A run's link to a tracking store. Only ``start`` may fail; all calls from one thread."""

    def start(self, config: dict[str, Any], tags: dict[str, str], dataset: dict[str, Any]) -> None:
        """Open the run, or the same run again on resume. UserError: store not reachable."""
        ...

    def grow(self, journal: Journal) -> None:
        """Send what the journal gained, in the background. Call after every step, or seldom."""
        ...

    def log_model(self, name: str, path: Path, metrics: dict[str, float] | None = None) -> None:
        """One model for each experience: a safetensors file, or a folder, that stays where it is.

        Its metrics also stand in the run, at step = number of earlier models.
        """
        ...

    def finish(self, result: Result, files: Sequence[Path] = ()) -> None:
        """Send the rest, the result and ``files``; the run is FINISHED."""
        ...

    def fail(self) -> None:
        """Send the rest; the run is FAILED."""
        ...


class NullTracker(Tracker):
    """Tracks nothing."""

    def start(self, config: dict[str, Any], tags: dict[str, str], dataset: dict[str, Any]) -> None:
        pass

    def grow(self, journal: Journal) -> None:
        pass

    def log_model(self, name: str, path: Path, metrics: dict[str, float] | None = None) -> None:
        pass

    def finish(self, result: Result, files: Sequence[Path] = ()) -> None:
        pass

    def fail(self) -> None:
        pass


class Shipper(Protocol):
    """One run folder's run in one store. Methods may be repeated and may raise anything."""

    folder: Path
    state: State
    uri: str

    def open(self, remedy: str, *, resume: bool = False) -> None: ...
    def watch_system(self) -> Callable[[], None]: ...
    def send_lines(self, journal: Journal) -> int: ...
    def send_models(self) -> int: ...
    def send_result(self, result: Result, files: Sequence[Path]) -> None: ...
    def end(self, status: str) -> None: ...


def send_missing(run: Shipper, result: Result | None) -> str:
    """Send what the store of an opened run lacks; says what that was."""
    lines, models = run.send_lines(Journal(run.folder / JOURNAL_FILE)), run.send_models()
    status = run.state.status if result is None else "FINISHED"
    news = result is not None and not run.state.done
    if result is not None and news:
        run.send_result(result, [run.folder / "report.html", *sorted(run.folder.glob("*.png"))])
    if not run.state.done and status != "RUNNING":
        run.end(status)
    return f"{lines} journal lines, {models} models, {int(news)} result"


class MLflowTracker(Tracker):
    """Sends from a thread of its own. A lost store costs one warning; the run goes on beside it."""

    def __init__(self, run: Shipper, *, log_models: bool, system_metrics: bool) -> None:
        self._run, self._log_models, self._system_metrics = run, log_models, system_metrics
        self._journal = Journal(run.folder / JOURNAL_FILE)
        self._wake, self._closing = threading.Event(), False
        self._worker: threading.Thread | None = None
        self._stop_watch: Callable[[], None] = lambda: None
        self._grown = self._lost_at = float("-inf")

    def start(self, config: dict[str, Any], tags: dict[str, str], dataset: dict[str, Any]) -> None:
        run = self._run
        run.folder.mkdir(parents=True, exist_ok=True)
        run.state = replace(run.state, config=config, tags=tags, dataset=dataset)
        if not run.state.run_id:  # kept even if the store is lost just now, to be sent later
            run.state.save(run.folder, uri=shown(run.uri))
        run.open(REMEDY, resume=True)
        if self._system_metrics:
            self._stop_watch = run.watch_system()
        self._worker = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._worker.start()

    def grow(self, journal: Journal) -> None:
        self._journal = journal
        now = time.monotonic()
        if now - self._grown >= INTERVAL:
            self._grown = now
            journal.flush()
            self._wake.set()

    def log_model(self, name: str, path: Path, metrics: dict[str, float] | None = None) -> None:
        if self._log_models:
            self._run.state.add_model(name, self._run.folder, path, metrics)
            self._run.state.save(self._run.folder)
            self._wake.set()

    def finish(self, result: Result, files: Sequence[Path] = ()) -> None:
        if not (self._run.folder / RESULT_FILE).is_file():
            result.save(self._run.folder)
        self._close("FINISHED", lambda: self._run.send_result(result, files))

    def fail(self) -> None:
        self._close("FAILED", lambda: None)

    def _close(self, status: str, last: Callable[[], None]) -> None:
        if self._worker is None:  # never started, or closed before
            return
        since, refused = time.monotonic(), None
        try:
            self._run.state.save(self._run.folder, status=status)
            self._journal.flush()
        except UserError as error:  # of a full disk; the store may be on another one
            refused = error
        self._closing = True
        self._wake.set()
        self._worker.join()
        self._worker = None
        self._stop_watch()
        if self._lost_at < since:  # otherwise the worker has just waited for the store in vain
            self._try(self._ship, last, lambda: self._run.end(status))
        if refused is not None:
            raise refused

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._wake.clear()
            if not self._closing and time.monotonic() - self._lost_at > PATIENCE:
                self._try(self._ship)

    def _ship(self) -> None:
        self._run.send_lines(self._journal)
        self._run.send_models()

    def _try(self, *actions: Callable[[], None]) -> None:
        try:
            for action in actions:
                action()
        except Exception as error:  # whatever the store does, the run goes on
            if self._lost_at == float("-inf"):
                print(
                    f"medley: MLflow at {shown(self._run.uri)} failed "
                    f"({first_line(error, self._run.uri)}); "
                    f"the results stay in {self._run.folder} and can be sent later with "
                    f"`medley report --resend {self._run.folder}`.",
                    file=sys.stderr,
                )
            self._lost_at = time.monotonic()


def make_tracker(
    config: TrackingConfig, *, experiment: str, folder: Path, output_dir: Path
) -> Tracker:
    """The tracker of the run in ``folder``; SQLite and artifacts go to ``output_dir``."""
    if config.store == "none":
        return NullTracker()
    state = State.known(folder) or State("", experiment)
    uri = store_uri(config.uri, output_dir)
    run = MLflowRun(folder, state, uri=uri, output_dir=output_dir)
    return MLflowTracker(run, log_models=config.log_models, system_metrics=config.system_metrics)


def send_files(folder: Path, files: Sequence[Path], place: str) -> str:
    """Add files to the artifacts of a run that was tracked; says where that is, "" if it was not.

    UserError if the store fails.
    """
    state = State.known(folder)
    if state is None or not state.run_id:
        return ""
    output_dir = folder.resolve().parent.parent
    uri = recorded_uri(folder, state, output_dir)
    run = MLflowRun(folder, state, uri=uri, output_dir=output_dir)
    run.send_files(files, place)
    return f"{shown(run.uri)} (run {state.run_id}, {place}/)"


def resend(folder: Path, *, uri: str | None = None) -> str:
    """Send what the store lacks of one run folder; says what that was. May be repeated.

    uri: None means where the run went, else MLFLOW_TRACKING_URI, else SQLite beside the runs.
    UserError if the folder is not a run's or the store fails.
    """
    result = Result.load(folder) if (folder / RESULT_FILE).exists() else None
    state = State.known(folder) or (State.of(result, folder) if result else None)
    if state is None:
        raise UserError(f"{folder}: no {TRACKING_FILE} and no {RESULT_FILE}; give a run's folder.")
    if result is not None and not state.whole:
        state.done = False  # ended as FAILED after its result was saved
        state.note_models(folder)
    output_dir = folder.resolve().parent.parent
    uri = store_uri(uri, output_dir) if uri else recorded_uri(folder, state, output_dir)
    run = MLflowRun(folder, state, uri=uri, output_dir=output_dir)
    run.open(OTHER, timeout=60)
    with blaming(uri, "try again later"):
        sent = send_missing(run, result)
    return f"{folder}: sent {sent} to {shown(uri)} (run {state.run_id})"
