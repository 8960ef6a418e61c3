"""The same run tracked in MLflow (SQLite) and not tracked at all.

Timed: from the first step to the end of the last experience, checkpoints and evaluation included.
Opening the store and sending the final results take a fixed time, which is given beside it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.config import RunConfig, validate
from benchmarks.facts import Data
from benchmarks.run import Run
from benchmarks.speed.harness import noise_manifest, print_figures, ratio, time_all
from benchmarks.tracking import make_tracker
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache


class _Timed(Run):
    """A run in two parts, opening and training, so that each can be timed."""

    def execute(self) -> Any:
        self._open()

    def train_to_the_end(self) -> None:
        for index in range(len(self.strategy.rows)):
            self.strategy.train(self.benchmark.train_stream[index], eval_streams=[])
            self._experience_done(index, len(self.strategy.rows))


def main() -> None:
    quick = "--quick" in sys.argv
    manifest, adapter = (
        noise_manifest(classes=4, train=64 if quick else 320),
        SpeechConfig().build(),
    )
    data = Data(manifest, adapter, SignalCache(manifest, adapter, progress=False))
    fixed: dict[str, list[float]] = {"start": [], "finish": []}
    open_run: list[_Timed] = []
    with tempfile.TemporaryDirectory() as folder:

        def prepare(store: str) -> Callable[[], object]:
            _finish(open_run, fixed)
            run = _run(data, Path(folder), store)
            start = time.perf_counter()
            run.execute()
            if store == "mlflow":
                fixed["start"].append(time.perf_counter() - start)
                open_run.append(run)
            return run.train_to_the_end

        seconds = time_all(
            {"MLflow": lambda: prepare("mlflow"), "not tracked": lambda: prepare("none")},
            repeats=2 if quick else 7,
        )
        _finish(open_run, fixed)
    figures = {
        "tracked_vs_untracked": ratio(seconds, "MLflow", "not tracked"),
        "start_seconds": round(statistics.median(fixed["start"]), 3),
        "finish_seconds": round(statistics.median(fixed["finish"]), 3),
    }
    print_figures("training of one run", seconds, figures)


def _run(data: Data, folder: Path, store: str) -> _Timed:
    config = validate(
        RunConfig,
        {
            "experiment": "overhead",
            "dataset": "synthetic_speech",
            "scenario": {"name": "class_incremental", "num_experiences": 2},
            "learners": ["finetune"],
            "training": {"epochs": 5, "device": "cpu"},
            "tracking": {"store": store},
            "output_dir": tempfile.mkdtemp(dir=folder),
        },
        source="tracking_overhead",
    )
    output = Path(config.output_dir)
    # One store for all runs: making its tables is not what is measured.
    tracking = config.tracking.model_copy(update={"uri": f"sqlite:///{folder}/mlflow.db"})
    tracker = make_tracker(tracking, experiment="overhead", folder=config.folder, output_dir=output)
    scenario: Any = config.scenario
    config.folder.mkdir(parents=True)
    return _Timed(config, data, scenario.build(data.manifest, 1), tracker=tracker)


def _finish(runs: list[_Timed], fixed: dict[str, list[float]]) -> None:
    while runs:
        start = time.perf_counter()
        runs.pop().tracker.fail()
        fixed["finish"].append(time.perf_counter() - start)


if __name__ == "__main__":
    main()
