"""Seconds per 1,000 recordings of each modality: decode, gather, front end, model.

Files are decoded once (the first epoch, or never again with a cache on disk); every epoch gathers
batches out of the decoded signals. The bottleneck is the slowest stage of the first and of every
later epoch. Decoding is timed in the calling thread (0) and with 1 and 2 worker threads.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.speed.loader_files import WRITERS
from multimodal.encoders.compact import CompactEncoder
from multimodal.modalities import MODALITIES
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache

BATCH = 32
PATCH = {"speech": 4, "audio": 8, "ecg": 16, "xray": 16, "video": 16}


def stages(modality: str, folder: Path, count: int, repeats: int) -> dict[str, float]:
    """Stage -> median seconds per 1,000 recordings."""
    rows = [
        Recording(f"{i:04d}", (i % 2,), "train", path=WRITERS[modality](folder, i))
        for i in range(count)
    ]
    manifest = Manifest(modality, modality, ("a", "b"), tuple(rows), "1", synthetic=True)
    config: Any = MODALITIES.config(modality)()
    adapter = config.build()
    indices = np.arange(count)

    def decode(workers: int) -> Callable[[], object]:
        if workers == 0:
            return lambda: [adapter.load(r) for r in manifest]
        return lambda: SignalCache(manifest, adapter, workers=workers, progress=False).ensure(
            indices
        )

    signals = SignalCache(manifest, adapter, progress=False)
    batches = np.array_split(indices, -(-count // BATCH))
    front_end, encoder = (
        adapter.front_end(),
        CompactEncoder(adapter.channels, axes=adapter.axes, patch=PATCH[modality]),
    )
    gathered = [signals.gather(part) for part in batches]
    features = [front_end(batch) for batch in gathered]

    def train() -> None:
        for values, lengths in features:
            pooled = encoder(values, lengths).pooled
            nn.functional.cross_entropy(pooled[:, :2], torch.zeros(len(pooled)).long()).backward()

    work = {f"decode, {w} workers": decode(w) for w in (0, 1, 2)}
    work["gather"] = lambda: [signals.gather(part) for part in batches]
    work["front end"] = lambda: [front_end(batch) for batch in gathered]
    work["model"] = train
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, run in work.items():
            start = perf_counter()
            run()
            if turn:  # the first round warms up
                seconds[name].append((perf_counter() - start) * 1000 / count)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    quick = "--quick" in sys.argv
    count, repeats = (8, 1) if quick else (64, 5)
    table = Table(
        title=f"seconds per 1,000 recordings, {os.cpu_count()} cores, median of {repeats}",
        caption="model: one training step of the compact encoder, batches of 32",
    )
    figures: dict[str, dict[str, object]] = {}
    for modality in WRITERS:
        with tempfile.TemporaryDirectory() as folder:
            found = stages(modality, Path(folder), count, repeats)
        later = {name: found[name] for name in ("gather", "front end", "model")}
        first = {**later, "decode": min(v for n, v in found.items() if n.startswith("decode"))}
        bottlenecks = {
            "bottleneck_first_epoch": max(first, key=lambda n: first[n]),
            "bottleneck_later": max(later, key=lambda n: later[n]),
        }
        figures[modality] = {
            **{n.replace(", ", "_").replace(" ", "_"): round(v, 3) for n, v in found.items()},
            **bottlenecks,
        }
        if not table.columns:
            for name in ("", *found, *bottlenecks):
                table.add_column(name.replace("_", " "))
        table.add_row(modality, *(f"{v:.2f}" for v in found.values()), *bottlenecks.values())
    Console(width=140).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
