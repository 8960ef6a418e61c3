"""The same run tracked in MLflow (SQLite) and not tracked at all.

``whole_run`` times everything: opening the store, training, checkpoints, evaluation, sending the
result, the plot and the report. ``training`` times only from the first step to the end of the last
experience; what opening and finishing cost is fixed, whatever the length of a run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.epochs_run import EpochsRun
from benchmarks.config.loading import validate
from benchmarks.runs.data import Data
from benchmarks.speed.harness import noise_manifest, print_figures, ratio, time_all
from continual.strategy import StreamStrategy
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache


class _Watch:
    """Observer: seconds from the first step to the end of the last experience."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def begin(self, total_steps: int, done_steps: int) -> None:
        self.first = time.perf_counter()

    def step(self, strategy: StreamStrategy) -> None:
        pass

    def experience_done(self, index: int, count: int, measure: str, scores: list[float]) -> None:
        self.last = time.perf_counter()


def main() -> None:
    quick = "--quick" in sys.argv
    manifest = noise_manifest(classes=4, train=64 if quick else 320)
    adapter = SpeechConfig().build()
    data = Data(manifest, adapter, SignalCache(manifest, adapter, progress=False))
    watches: dict[str, list[_Watch]] = {"mlflow": [], "none": []}
    with tempfile.TemporaryDirectory() as folder:

        def prepare(store: str) -> Callable[[], object]:
            watches[store].append(_Watch())
            return _run(data, Path(folder), store, watches[store][-1]).execute

        seconds = time_all(
            {"MLflow": lambda: prepare("mlflow"), "not tracked": lambda: prepare("none")},
            repeats=2 if quick else 7,
        )
    # The first round is warm-up: it also makes the store's tables.
    training = {k: [w.last - w.first for w in ws[1:]] for k, ws in watches.items()}
    figures = {
        "training": ratio(training, "mlflow", "none"),
        "whole_run": ratio(seconds, "MLflow", "not tracked"),
        "fixed_seconds": round(
            statistics.median(seconds["MLflow"]) - statistics.median(training["mlflow"]), 3
        ),
    }
    parts = {"training, MLflow": training["mlflow"], "training, not tracked": training["none"]}
    print_figures("one run", {**seconds, **parts}, figures)


def _run(data: Data, folder: Path, store: str, watch: _Watch) -> EpochsRun:
    config = validate(
        RunConfig,
        {
            "experiment": "overhead",
            "dataset": "synthetic_speech",
            "scenario": {"name": "class_incremental", "num_experiences": 2},
            "learners": ["finetune"],
            "training": {"epochs": 5, "device": "cpu"},
            # One store for all runs: making its tables is not what is measured.
            "tracking": {"store": store, "uri": f"sqlite:///{folder}/mlflow.db"},
            "output_dir": tempfile.mkdtemp(dir=folder),
        },
        source="tracking_overhead",
    )
    scenario: Any = config.scenario
    config.folder.mkdir(parents=True)
    stream = scenario.build(data.manifest, 1)
    return EpochsRun(config, data, stream, observer=watch)


if __name__ == "__main__":
    main()
