"""What is told to a tracking store: its state, names, parameters, batches, table and plot."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reports.pictures import matrix_name, row_names
from benchmarks.results.journal import Line
from benchmarks.results.result import Result, write_atomically

TRACKING_FILE = "tracking.json"
MAX_METRICS, MAX_KEY, MAX_VALUE = 1000, 250, 6000  # MLflow's limits: a batch; characters


@dataclass
class State:
    """``tracking.json``: what describes the run, and what the store has of it.

    uri: without password. sent_lines: of the journal; last_step: the largest one sent. status:
    MLflow's. done: the store has the result, if there is one, and the status. models: name ->
    path (within the run folder, if it is there), step, time, metrics and the store's id (None:
    not yet sent).
    """

    uri: str
    experiment: str
    config: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""
    sent_lines: int = 0
    last_step: int = 0
    status: str = "RUNNING"
    done: bool = False
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()  # both the run and its sending thread save

    @classmethod
    def load(cls, folder: Path) -> State | None:
        """The state in a run folder, or None."""
        path = folder / TRACKING_FILE
        return cls(**json.loads(path.read_text("utf-8"))) if path.is_file() else None

    @classmethod
    def of(cls, result: Result, folder: Path) -> State:
        """Of a run that was not tracked; its models are the safetensors files in ``models/``."""
        keys = ("config_hash", "learner", "scenario", "modality", "seed")
        tags = {f"medley.{key}": str(getattr(result, key)) for key in keys}
        tags["medley.dataset"] = str(result.dataset.get("name", ""))
        state = cls("", result.experiment, result.config, tags, result.dataset)
        for path in sorted((folder / "models").glob("*.safetensors")):
            state.add_model(path.stem, folder, path, None)
        return state

    def save(self, folder: Path, **changes: Any) -> None:
        """Change fields and write ``tracking.json``, replaced atomically."""
        with self._lock:
            self.__dict__.update(changes)
            write_atomically(folder / TRACKING_FILE, json.dumps(asdict(self), indent=1) + "\n")

    def add_model(
        self, name: str, folder: Path, path: Path, metrics: dict[str, float] | None
    ) -> None:
        """Note a model to be sent, unless there is one of that name."""
        inside = path.is_relative_to(folder)
        entry = {
            "path": str(path.relative_to(folder) if inside else path.resolve()),
            "step": len(self.models),
            "time": time.time_ns() // 1_000_000,
            "metrics": metrics or {},
            "id": None,
        }
        with self._lock:
            self.models.setdefault(re.sub(r"[/:.%\"']", "_", name), entry)


class Point(NamedTuple):
    """One metric value; time in milliseconds since the epoch."""

    name: str
    value: float
    step: int
    time: int


def metric_name(name: str) -> str:
    """``name`` as MLflow allows it for metrics and parameters: letters, digits, ``_ . - /`` and
    space, no empty or dotted path parts, at most 250 characters (the end becomes a digest)."""
    parts = [p for p in re.sub(r"[^\w/.\- ]", "_", name).split("/") if p]
    clean = "/".join("_" * len(p) if p in (".", "..") else p for p in parts) or "_"
    if len(clean) > MAX_KEY:
        clean = f"{clean[: MAX_KEY - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return clean


def flat_params(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested config -> {"training.epochs": "5"}; lists, numbers and None as JSON, at most 6000
    characters."""
    params: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            params |= flat_params(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            params[metric_name(f"{prefix}{key}")] = text[:MAX_VALUE]
    return params


def batches(lines: list[Line]) -> Iterator[tuple[int, list[Point]]]:
    """Group whole lines by at most 1000 values (a longer line stays whole): (lines, points)."""
    points: list[Point] = []
    count = 0
    for line in lines:
        if count and len(points) + len(line.metrics) > MAX_METRICS:
            yield count, points
            points, count = [], 0
        points += [Point(k, v, line.step, line.time) for k, v in line.metrics.items()]
        count += 1
    if count:
        yield count, points


def run_title(tags: dict[str, str]) -> str | None:
    """Learner, dataset and seed, as far as there are tags for them."""
    keys = ("medley.learner", "medley.dataset", "medley.seed")
    return "-".join(tags[key] for key in keys if key in tags) or None


def final_points(result: Result, *, step: int, time: int) -> list[Point]:
    """The metrics that are single numbers."""
    numbers = {k: v for k, v in result.metrics.items() if type(v) in (int, float)}
    return [Point(k, v, step, time) for k, v in numbers.items()]


def experience_names(result: Result) -> list[str]:
    """Distinct names: number from 1, then the experience's own name."""
    names = [str(e.get("name", "")) for e in result.experiences]
    return [f"{i} {name}".strip() for i, name in enumerate(names, start=1)]


def matrix_table(rows: list[list[float | None]], names: list[str]) -> dict[str, list[Any]]:
    """Columns of an accuracy matrix's table: "after", then one for each test set."""
    columns = {name: [row[j] for row in rows] for j, name in enumerate(names[: len(rows[0])])}
    return {"after": row_names(rows, names), **columns}


def matrix_tables(result: Result) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """(file name, columns) of a result's matrix, if it has one."""
    if result.matrix:
        table = matrix_table(result.matrix, experience_names(result))
        yield f"{matrix_name(result)}.json", table


def shown(uri: str) -> str:
    """``uri`` without a password, for files and messages."""
    return re.sub(r"//[^@/]*@", "//***@", uri)


def first_line(error: Exception) -> str:
    """The start of an error's text, of its cause if it names one; at most 200 characters."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return shown(line.rpartition("(Caused by ")[2][:200])


def artifact_place(uri: str, output_dir: Path) -> str | None:
    """Where a new experiment's files go: a server knows itself (None), but a bare database would
    put them in the working folder."""
    database = re.match(r"(sqlite|postgresql|mysql|mssql)\b", uri)
    return (output_dir / "mlartifacts").resolve().as_uri() if database else None


def default_uri(output_dir: Path) -> str:
    """MLFLOW_TRACKING_URI, else SQLite in ``output_dir``."""
    database = f"sqlite:///{(output_dir / 'mlflow.db').resolve().as_posix()}"
    return os.environ.get("MLFLOW_TRACKING_URI") or database
