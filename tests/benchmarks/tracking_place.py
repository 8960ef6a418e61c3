"""What the tests of tracking share: an output folder with its own store, and a made-up run."""

from __future__ import annotations

import shutil
from pathlib import Path

import safetensors.torch
import torch

from benchmarks.config.base import TrackingConfig
from benchmarks.results.journal import Journal
from benchmarks.results.result import Result
from benchmarks.tracking import store as tracking
from benchmarks.tracking.tracker import make_tracker

CONFIG = {
    "experiment": "digits",
    "training": {"epochs": 5, "rate": 0.1, "note": "x" * 7000},
    "seeds": [0, 1],
    "root": None,
    "many": {f"key{i}": i for i in range(150)},
}
TAGS = {"medley.config_hash": "abc", "medley.learner": "replay", "medley.seed": "0"}
DATASET = {"name": "fsdd", "version": "1.0", "content_hash": "0123456789abcdef", "licence": "CC"}
MATRIX = [[0.5, None], [0.25, 1.0]]
FILES = {"config.yaml", "accuracy_matrix.json", "accuracy_matrix.png", "result.json"}


class Place:
    """An output folder with its own store, and one run folder in it."""

    def __init__(self, output_dir: Path, empty_store: Path) -> None:
        self.output_dir = output_dir
        self.folder = output_dir / "digits" / "abc"
        self.folder.mkdir(parents=True)
        shutil.copy(empty_store, output_dir / "mlflow.db")
        self.uri = f"sqlite:///{output_dir / 'mlflow.db'}"
        self.client = tracking.connect(self.uri)

    def tracker(self, **fields):
        config = TrackingConfig(**fields)
        return make_tracker(
            config, experiment="digits", folder=self.folder, output_dir=self.output_dir
        )

    def started(self, **fields):
        tracker = self.tracker(**fields)
        tracker.start(CONFIG, TAGS, DATASET)
        return tracker

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "metrics.jsonl")

    def runs(self, uri: str | None = None):
        client = tracking.connect(uri) if uri else self.client
        ids = [client.get_experiment_by_name("digits").experiment_id]
        return client.search_runs(ids)

    def history(self, key: str, uri: str | None = None) -> list[tuple[int, float]]:
        (run,) = self.runs(uri)
        client = tracking.connect(uri) if uri else self.client
        return sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))

    def model(self, name: str) -> Path:
        path = self.folder / "models" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        safetensors.torch.save_file({"w": torch.arange(3.0)}, path)
        return path

    def models(self):
        ids = [self.client.get_experiment_by_name("digits").experiment_id]
        return sorted(self.client.search_logged_models(ids), key=lambda m: m.name)

    def artifacts(self) -> set[str]:
        (run,) = self.runs()
        return {f.path for f in self.client.list_artifacts(run.info.run_id)}


def result() -> Result:
    metrics = {
        "average_accuracy": 0.625,
        "forgetting": 0.25,
        "forward_transfer": None,
        "accuracy_matrix": MATRIX,
        "per_class_accuracy": {"one": 0.5},
    }
    return Result(
        command="bench",
        experiment="digits",
        config_hash="abc",
        learner="replay",
        scenario="class_incremental",
        modality="speech",
        seed=0,
        quick=True,
        dataset=DATASET,
        class_names=["one", "two"],
        experiences=[{"name": "first"}, {"name": "second"}],
        metrics=metrics,
        config=CONFIG,
    )


def lose(client_class, monkeypatch):
    """From now on the store answers nothing."""

    def broken(*args, **kwargs):
        raise ConnectionError("server went away")

    for name in ("log_batch", "log_model_artifact", "set_terminated", "log_artifact", "get_run"):
        monkeypatch.setattr(client_class, name, broken)


def write(journal: Journal, start: int, stop: int) -> None:
    for step in range(start, stop):
        journal.write({"loss": 1 / (step + 1), "rate": float(step)}, step)
