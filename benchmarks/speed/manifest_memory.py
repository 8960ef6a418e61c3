"""Resident memory of 10 hours of audio as a Manifest: no signal is opened before the first batch.

7,200 WAV files of 5 s (links to one file) are read by the ``folder`` dataset in a process of its
own. Linux only.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

RATE, SECONDS, CLASSES = 16_000, 5, 10


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0]) / 1024


def measure(folder: str) -> dict[str, float]:
    """MiB resident after importing the readers, and with the manifest made."""
    from multimodal.datasets import DATASETS

    config = DATASETS.config("folder")(modality="audio")  # pyright: ignore[reportCallIssue]
    before = resident_mib()
    manifest = config.build(Path(folder))  # pyright: ignore[reportAttributeAccessIssue]
    assert len(manifest.labels) == len(manifest)
    _ = manifest.content_hash
    return {"readers_mib": before, "manifest_mib": resident_mib()}


def main() -> None:
    files = 720 if "--quick" in sys.argv else 10 * 3600 // SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = np.random.default_rng(0).normal(0, 0.1, RATE * SECONDS)
        soundfile.write(folder / "one.wav", noise, RATE)
        for i in range(files):
            place = folder / "data" / f"class_{i % CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            os.link(folder / "one.wav", place / f"{i:05d}.wav")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures = pool.apply(measure, (str(folder / "data"),))
    hours = files * SECONDS / 3600
    table = Table("", "MiB resident", title=f"{hours:g} hours of audio, {files} files")
    table.add_row("readers imported", f"{figures['readers_mib']:.0f}")
    table.add_row("manifest read", f"{figures['manifest_mib']:.0f}")
    Console(width=100).print(table)
    print(json.dumps({"hours": hours, **{k: round(v, 1) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
