"""Peak and resident memory of signals, and of features, that are held: both over what is held.

9,600 clips of one second at 16 kHz, written as WAV files, are decoded into a cache in memory by a
process of its own, whose memory before the first clip is taken off. Linux only.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

RATE = 16_000


def status_mib(key: str) -> float:
    """VmRSS (resident) or VmHWM (its peak) of this process."""
    text = Path("/proc/self/status").read_text()
    return float(text.split(f"{key}:")[1].split()[0]) / 1024


def measure(folder: str, features: bool) -> dict[str, float]:
    import torch

    from multimodal.datasets.folder import FolderConfig
    from multimodal.modalities.speech import SpeechConfig
    from multimodal.signals import SignalCache

    torch.set_num_threads(1)
    manifest = FolderConfig(modality="speech").build(Path(folder))
    adapter = SpeechConfig().build()
    taken = adapter.with_features() if features else adapter
    SignalCache(manifest, taken, progress=False).ensure([0])  # imports and threads
    before, rows = status_mib("VmRSS"), np.arange(len(manifest))
    cache = SignalCache(manifest, taken, progress=False)
    cache.ensure(rows)
    held = cache.nbytes / 2**20
    return {
        "held_mib": held,
        "resident_mib": status_mib("VmRSS") - before,
        "peak_mib": max(status_mib("VmHWM") - before, 0.0),
    }


def main() -> None:
    clips = 960 if "--quick" in sys.argv else 9_600
    with tempfile.TemporaryDirectory() as name:
        for i in range(clips):
            place = Path(name) / f"class_{i % 40}"
            place.mkdir(exist_ok=True)
            noise = np.random.default_rng(i).normal(0, 0.1, RATE)
            soundfile.write(place / f"{i:05d}.wav", noise, RATE)
        found = {}
        for features in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[features] = pool.apply(measure, (name, features))
    table = Table("", "held MiB", "resident MiB", "peak MiB", title=f"{clips} clips of 1 s")
    for features, label in ((False, "signals"), (True, "features")):
        table.add_row(label, *(f"{value:.0f}" for value in found[features].values()))
    Console(width=100).print(table)
    figures = {
        "peak_over_held": round(found[False]["peak_mib"] / found[False]["held_mib"], 3),
        "features_peak_over_held": round(found[True]["peak_mib"] / found[True]["held_mib"], 3),
        "features_over_signals": round(found[True]["held_mib"] / found[False]["held_mib"], 3),
    }
    print(json.dumps({"clips": clips, **figures}))


if __name__ == "__main__":
    main()
