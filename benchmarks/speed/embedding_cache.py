"""A linear probe on a frozen tower: the first epoch, which embeds, against the second, which reads.

Signals and embeddings are cached on disk. The memory that is not file-backed (anonymous resident
memory, sampled while it runs) is compared between two sizes of the dataset; Linux only.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.speed.harness import noise_manifest, print_times
from multimodal.encoders.cache import EmbeddingCache
from multimodal.encoders.compact import CompactEncoder
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache

CLASSES, BATCH, WIDTH = 10, 32, 192


def epochs(folder: Path, recordings: int, count: int) -> list[float]:
    """Seconds of each epoch; the first finds decoded signals but no embedding."""
    manifest = noise_manifest(classes=CLASSES, train=recordings // CLASSES, seconds=1.0)
    adapter = SpeechConfig().build()
    signals = SignalCache(manifest, adapter, folder=folder / "signals", progress=False)
    rows = torch.as_tensor(manifest.indices("train"))
    signals.ensure(rows)
    torch.manual_seed(0)
    encoder = CompactEncoder(adapter.channels, width=WIDTH, depth=6).requires_grad_(False)
    cache = EmbeddingCache(
        signals,
        adapter.front_end(),
        encoder,
        rows=rows,
        settings={},
        folder=folder,
        progress=False,
    )
    head = nn.Linear(WIDTH, CLASSES)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3)
    seconds = []
    for _ in range(count):
        start = perf_counter()
        cache.ensure(rows)
        for part in rows[torch.randperm(len(rows))].split(BATCH):
            batch = cache.gather(part)
            optimizer.zero_grad()
            assert batch.embeddings is not None
            nn.functional.cross_entropy(head(batch.embeddings), batch.labels).backward()
            optimizer.step()
        seconds.append(perf_counter() - start)
    return seconds


def peak_anonymous_mib(recordings: int) -> float:
    """The highest anonymous resident memory while two epochs run, sampled every 20 ms."""
    done, peak = threading.Event(), 0.0

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text()
            kib = float(status.split("RssAnon:")[1].split()[0])
            peak = max(peak, kib / 1024)

    watcher = threading.Thread(target=sample)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        epochs(Path(folder), recordings, 2)
    done.set()
    watcher.join()
    return peak


def main() -> None:
    quick = "--quick" in sys.argv
    small, runs = (200, 2) if quick else (2000, 5)
    times: dict[str, list[float]] = {"first epoch": [], "second epoch": []}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            first, second = epochs(Path(folder), small, 2)
        times["first epoch"].append(first)
        times["second epoch"].append(second)
    pairs = zip(times["first epoch"], times["second epoch"], strict=True)
    ratio = round(statistics.median(a / b for a, b in pairs), 1)
    print_times(f"linear probe on a frozen tower, {small} recordings of 1 s", times)
    peaks = {}
    # Decoded signals are written in shards of 256 MiB, so the smaller set fills more than one.
    for recordings in (small, 2 * small) if quick else (6000, 12000):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[recordings] = pool.apply(peak_anonymous_mib, (recordings,))
    table = Table("recordings of 1 s", "peak anonymous MiB", title="memory, two epochs")
    for recordings, peak in peaks.items():
        table.add_row(str(recordings), f"{peak:.0f}")
    Console(width=100).print(table)
    low, high = peaks.values()
    print(
        json.dumps(
            {
                "first_over_second_epoch": ratio,
                "peak_mib": {str(n): round(p, 1) for n, p in peaks.items()},
                "peak_memory_ratio": round(high / low, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
