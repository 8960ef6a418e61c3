"""Peak memory of a run of 5 against one of 50 experiences over the same recordings.

Each run has a process of its own (peak resident size, of Linux and macOS).
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.harness import noise_manifest


def peak_bytes(experiences: int, train: int) -> int:
    """Peak resident size of one whole replay run, MLflow off."""
    from benchmarks.commands.bench.config import RunConfig
    from benchmarks.commands.bench.epochs_run import EpochsRun
    from benchmarks.config.loading import validate
    from benchmarks.runs.data import Data
    from multimodal.modalities.speech import SpeechConfig
    from multimodal.signals import SignalCache

    manifest, adapter = noise_manifest(classes=50, train=train), SpeechConfig().build()
    data = Data(manifest, adapter, SignalCache(manifest, adapter, progress=False))
    with tempfile.TemporaryDirectory() as folder:
        config = validate(
            RunConfig,
            {
                "experiment": "memory",
                "dataset": "synthetic_speech",
                "scenario": {"name": "class_incremental", "num_experiences": experiences},
                "learners": ["replay"],
                "training": {"epochs": 1, "device": "cpu"},
                "tracking": {"store": "none", "log_models": False},
                "output_dir": str(Path(folder)),
            },
            source="stream_memory",
        )
        scenario: Any = config.scenario
        result = EpochsRun(config, data, scenario.build(manifest, 1)).execute()
    return result.peak_memory_bytes["process"]


def main() -> None:
    quick = "--quick" in sys.argv
    peaks: dict[int, list[float]] = {5: [], 50: []}
    for _ in range(1 if quick else 5):
        for experiences, values in peaks.items():
            # A fresh interpreter: a forked one would inherit this one's peak.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak = pool.apply(peak_bytes, (experiences, 8 if quick else 40))
            values.append(peak / 2**20)
    table = Table("experiences", "median MiB", "min MiB", "max MiB", "runs", title="peak memory")
    for experiences, values in peaks.items():
        row = (statistics.median(values), min(values), max(values))
        table.add_row(str(experiences), *(f"{v:.0f}" for v in row), str(len(values)))
    Console(width=100).print(table)
    medians = {n: statistics.median(values) for n, values in peaks.items()}
    figures = {f"peak_mib_{n}": round(value, 1) for n, value in medians.items()}
    print(json.dumps({**figures, "ratio_50_to_5": round(medians[50] / medians[5], 3)}))


if __name__ == "__main__":
    main()
