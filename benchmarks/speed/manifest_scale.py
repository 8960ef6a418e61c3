"""Seconds and memory of a table of 1,000,000 rows as a Manifest, and of what a run does before it
decodes anything.

A CSV table of path, label, speaker and split names small files (links) in folders of 1,000; it is
read by the ``table`` dataset in a process of its own. ``cpu`` is seconds of processor time, which
others that use the machine hardly change, unlike ``wall``; ``peak`` and ``held`` are MiB of
resident memory above the imports. ``seeded`` is the same table without its column of splits, which
are drawn. After the Manifest come its hashes (the bytes of every file, for the first time and
again), held-out validation and a class-incremental stream, a cache of signals and the annotations
of one batch, in seconds of processor time: what stands between a user's command and the first
step, decoding aside. Linux only.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

RATE, CLASSES, SPEAKERS, IN_A_FOLDER, LINKS = 16_000, 40, 2000, 1000, 30_000


def status_mib(key: str) -> float:
    """VmRSS or VmHWM (the peak) of this process."""
    status = Path("/proc/self/status").read_text()
    return float(status.split(f"{key}:")[1].split()[0]) / 1024


def make(root: Path, rows: int) -> None:
    """The files, and tables with and without splits."""
    noise = np.random.default_rng(0).normal(0, 0.1, 160)
    named = (root / "named.csv").open("w")
    seeded = (root / "seeded.csv").open("w")
    source = root
    with named, seeded:
        named.write("path,label,speaker,split\n")
        seeded.write("path,label,speaker\n")
        for i in range(rows):
            if i % LINKS == 0:  # a file system bears only so many names of one file
                source = root / f"source_{i // LINKS}.wav"
                soundfile.write(source, noise, RATE)
            folder = f"recordings_{i // IN_A_FOLDER:04d}"
            if i % IN_A_FOLDER == 0:
                (root / folder).mkdir()
            os.link(source, root / folder / f"clip_{i:07d}.wav")
            speaker, word = i % SPEAKERS, (i // SPEAKERS + 7 * i) % CLASSES
            row = f"{folder}/clip_{i:07d}.wav,word_{word:02d},speaker_{speaker:04d}"
            seeded.write(f"{row}\n")
            named.write(f"{row},{'test' if speaker % 5 == 0 else 'train'}\n")


def measure_manifest(folder: str, file: str) -> dict[str, float]:
    """Seconds, and MiB above the imports, in a fresh process."""
    from multimodal.datasets import DATASETS

    config = DATASETS.config("table").parse({"file": file, "group_column": "speaker"})
    gc.collect()
    before, start, cpu = status_mib("VmRSS"), time.perf_counter(), time.process_time()
    manifest = config.build(Path(folder))  # pyright: ignore[reportAttributeAccessIssue]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    assert len(manifest.labels) == len(manifest)
    gc.collect()
    peak, held = status_mib("VmHWM") - before, status_mib("VmRSS") - before
    return {"cpu": cpu, "wall": wall, "peak_mib": peak, "held_mib": held}


def measure_start(folder: str) -> dict[str, float]:
    """Seconds of all that comes before the first step of ``medley bench``, but for decoding."""
    from continual.scenarios.avalanche_benchmark import as_benchmark
    from continual.scenarios.class_incremental import ClassIncrementalConfig
    from multimodal.datasets import DATASETS
    from multimodal.modalities import MODALITIES
    from multimodal.signals import SignalCache

    root, seconds, begin = Path(folder), dict[str, float](), time.perf_counter()

    def timed(name: str, work: Callable[[], object]) -> object:
        start = time.process_time()
        found = work()
        seconds[name] = time.process_time() - start
        return found

    config = DATASETS.config("table").parse({"file": "named.csv", "group_column": "speaker"})
    manifest = timed("manifest", lambda: config.build(root))  # pyright: ignore
    kept = replace(manifest, digests=root / "digests")  # pyright: ignore
    timed("files_hash", lambda: kept.files_hash)
    timed("files_hash_again", lambda: replace(kept).files_hash)
    timed("content_hash", lambda: kept.content_hash)
    scenario = ClassIncrementalConfig(num_experiences=10, validation_fraction=0.1)
    stream = timed("stream", lambda: scenario.build(kept, 0))
    adapter = MODALITIES.parse(kept.modality).build()  # pyright: ignore
    signals = timed("signals", lambda: SignalCache(kept, adapter))
    rows = stream.rows[:128]  # pyright: ignore
    timed("benchmark", lambda: as_benchmark(stream, signals.gather))  # pyright: ignore
    timed("batch", lambda: signals.annotations(rows))  # pyright: ignore
    total = sum(seconds.values()) - seconds["files_hash_again"]
    wall = time.perf_counter() - begin
    return {**seconds, "before_first_step": total, "wall": wall, "mib": status_mib("VmHWM")}


def main() -> None:
    rows = 20_000 if "--quick" in sys.argv else 1_000_000
    repeats = 1 if "--quick" in sys.argv else 5
    spawn = multiprocessing.get_context("spawn")
    runs: dict[str, list[dict[str, float]]] = {"named": [], "seeded": [], "start": []}
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), rows)
        for _ in range(repeats):
            for kind in ("named", "seeded"):
                with spawn.Pool(1) as pool:
                    runs[kind].append(pool.apply(measure_manifest, (name, f"{kind}.csv")))
        with spawn.Pool(1) as pool:
            runs["start"].append(pool.apply(measure_start, (name,)))
    title = f"a table of {rows:,} rows"
    table = Table("", "median", "min", "max", "runs", title=title)
    figures: dict[str, float] = {"rows": rows}
    for kind, found in runs.items():
        for key in found[0]:
            values = sorted(run[key] for run in found)
            middle = float(np.median(values))
            cells = (f"{v:.1f}" for v in (middle, values[0], values[-1]))
            table.add_row(f"{kind} {key}", *cells, str(len(values)))
            figures[f"{kind}_{key}"] = round(middle, 2)
    Console(width=100).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
