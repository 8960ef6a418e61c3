"""What a run folder remembers of its tracking store, and how stores are named."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.results.result import Result
from benchmarks.tracking.birth import database_uri
from multimodal.credentials import HIDDEN, hidden, remember, shown
from multimodal.digests import DamagedFile, read_sealed, sealed
from multimodal.errors import UserError
from multimodal.files import write_atomically

TRACKING_FILE, VARIABLE = "tracking.json", "MLFLOW_TRACKING_URI"


@dataclass
class State:
    """``tracking.json``: what describes the run, and what the store has of it.

    uri: as ``shown``, without credentials. sent_lines: of the journal; last_step: the largest one
    sent. status: MLflow's. done: the store has the result, if there is one, and the status.
    models: name -> path (within the run folder, if it is there), step, time, metrics and the
    store's id (None: not yet sent).
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
        """The state in a run folder, or None. DamagedFile: it is not as it was written."""
        path = folder / TRACKING_FILE
        if not path.exists():
            return None
        data = read_sealed(path)
        try:
            return TypeAdapter(cls).validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise DamagedFile(f"{path} is damaged ({problem})") from error

    @classmethod
    def known(cls, folder: Path) -> State | None:
        """The same; a damaged one is told on standard error and counts as none."""
        try:
            return cls.load(folder)
        except DamagedFile as error:
            print(f"medley: {error}; tracked anew, as another MLflow run.", file=sys.stderr)
            return None

    @classmethod
    def of(cls, result: Result, folder: Path) -> State:
        """Of a run that was not tracked; its models are the safetensors files in ``models/``, or
        the folder ``model/``.
        """
        keys = ("config_hash", "learner", "scenario", "modality", "seed")
        tags = {f"medley.{key}": str(getattr(result, key)) for key in keys}
        tags["medley.dataset"] = str(result.dataset.get("name", ""))
        tags["medley.dataset_content_hash"] = str(result.dataset.get("content_hash", ""))
        tags["medley.quick"] = str(result.quick).lower()
        if result.git_commit:
            tags["medley.git_commit"] = result.git_commit
        state = cls("", result.experiment, result.config, tags, result.dataset)
        state.note_models(folder)
        return state

    def note_models(self, folder: Path) -> None:
        """Of a run that was not tracked, or whose store was lost when it began: the models that
        lie in its folder, unless they are noted.
        """
        if not self.config.get("tracking", {}).get("log_models", True):
            return
        for path in sorted((folder / "models").glob("*.safetensors")):
            self.add_model(path.stem, folder, path, None)
        if (folder / "model").is_dir():
            self.add_model("fine_tuned", folder, folder / "model", None)
        if (folder / "model.safetensors").is_file():
            self.add_model("model", folder, folder / "model.safetensors", None)

    @property
    def whole(self) -> bool:
        """The store has a finished run with its result."""
        return self.done and self.status == "FINISHED"

    def save(self, folder: Path, **changes: Any) -> None:
        """Change fields and write ``tracking.json``, replaced atomically."""
        with self._lock:
            self.__dict__.update(changes)
            write_atomically(folder / TRACKING_FILE, sealed(asdict(self)))

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


def first_line(error: Exception, uri: str) -> str:
    """The start of an error's text, of its cause if it names one; at most 200 characters.

    Without anything secret in ``uri``, which errors like to repeat.
    """
    text = hidden(str(error), uri)
    line = (text.splitlines() or [type(error).__name__])[0]
    return line.rpartition("(Caused by ")[2][:200]


def artifact_place(uri: str, output_dir: Path) -> str | None:
    """Where a new experiment's files go: a server knows itself (None), but a bare database would
    put them in the working folder."""
    database = re.match(r"(sqlite|postgresql|mysql|mssql)\b", uri)
    return (output_dir / "mlartifacts").resolve().as_uri() if database else None


def store_uri(given: str | None, output_dir: Path) -> str:
    """Of the store: ``given``, else MLFLOW_TRACKING_URI, else SQLite in ``output_dir``.

    What files keep has no credentials: where the environment's is the same store, it has them.
    """
    kept = os.environ.get(VARIABLE)
    same = kept and given in (None, "", shown(kept))
    uri = kept if kept and same else given
    uri = uri or database_uri((output_dir / "mlflow.db").resolve())
    remember(uri)
    return uri


def recorded_uri(folder: Path, state: State, output_dir: Path) -> str:
    """Where the run in ``folder`` went. UserError: its address could not be kept."""
    if HIDDEN in state.uri and not os.environ.get(VARIABLE):
        raise UserError(
            f"{folder}: the address of its store held a password and was not kept; give it again "
            f"as {VARIABLE}, or with `medley report --resend {folder} --uri ...`."
        )
    return store_uri(None if HIDDEN in state.uri else state.uri, output_dir)
