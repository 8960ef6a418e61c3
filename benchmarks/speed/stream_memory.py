"""Peak memory of a run of 5 against one of 50 experiences over the same recordings.

Each run has a process of its own (peak resident size, of Linux and macOS).
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.harness import noise_manifest


def peak_bytes(experiences: int, train: int) -> int:
    """Peak resident size of one whole replay run, MLflow off."""
    from benchmarks.config import RunConfig, validate
    from benchmarks.facts import Data
    from benchmarks.run import Run
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
        result = Run(config, data, scenario.build(manifest, 1)).execute()
    return result.peak_memory_bytes["process"]


def main() -> None:
    train = 8 if "--quick" in sys.argv else 40
    peaks = {}
    for experiences in (5, 50):
        # A fresh interpreter: a forked one would inherit this one's peak.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[experiences] = pool.apply(peak_bytes, (experiences, train))
        print(f"{experiences:3d} experiences: peak {peaks[experiences] / 2**20:.0f} MiB")
    figures = {f"peak_mib_{n}": round(peak / 2**20, 1) for n, peak in peaks.items()}
    print(json.dumps({**figures, "ratio_50_to_5": round(peaks[50] / peaks[5], 3)}))


if __name__ == "__main__":
    main()
