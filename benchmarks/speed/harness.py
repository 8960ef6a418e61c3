"""Timing of alternatives in turn, so that a slow moment of the machine falls on all of them."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.runs.machine import hardware, packages
from multimodal.recordings import Manifest, Recording

RATE = 16_000


def time_all(
    alternatives: Mapping[str, Callable[[], Callable[[], object]]],
    *,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each alternative, ``repeats`` times each, in turn, after one round of warm-up.

    An alternative prepares itself (not timed) and returns what is timed. clock: ``process_time``
    for work of one thread, which others that use the machine then hardly change.
    """
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(repeats + 1):
        for name, prepare in alternatives.items():
            work = prepare()
            start = clock()
            work()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], ours: str, peer: str) -> float:
    """Median over the rounds of ours / peer."""
    pairs = zip(seconds[ours], seconds[peer], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


def median_of_processes(measure: Callable[..., float], *args: Any, repeats: int) -> float:
    """Median of ``measure(*args)`` over processes that do nothing else, for peaks of memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    found = []
    for _ in range(repeats):
        with context.Pool(1) as pool:
            found.append(pool.apply(measure, args))
    return statistics.median(found)


def print_figures(
    title: str, seconds: Mapping[str, list[float]], figures: Mapping[str, object], *, per: int = 1
) -> None:
    """``print_times``, then the figures as the JSON line that ends a benchmark's output."""
    print_times(title, seconds, per=per)
    print(json.dumps(figures))


def print_times(title: str, seconds: Mapping[str, list[float]], *, per: int = 1) -> None:
    """A table in milliseconds (divided by ``per``: steps) and the hardware."""
    facts, versions = hardware(torch.device("cpu")), packages()
    caption = (
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads, "
        f"torch {versions['torch']}, avalanche {versions['avalanche-lib']}"
    )
    table = Table("", "median ms", "min ms", "max ms", "runs", title=title, caption=caption)
    for name, values in seconds.items():
        scaled = [1000 * v / per for v in values]
        row = (statistics.median(scaled), min(scaled), max(scaled))
        table.add_row(name, *(f"{v:.2f}" for v in row), str(len(scaled)))
    Console(width=100).print(table)


def noise_manifest(*, classes: int, train: int, test: int = 4, seconds: float = 0.5) -> Manifest:
    """Recordings of noise of one length: what a step costs does not depend on what is said."""

    def maker(number: int) -> Callable[[], np.ndarray]:
        length = int(seconds * RATE)
        return lambda: (
            np.random.default_rng(number).uniform(-0.5, 0.5, (1, length)).astype(np.float32)
        )

    rows = [
        Recording(f"{c:03d}/{split}/{i:04d}", (c,), split, make=maker(7919 * c + i))
        for c in range(classes)
        for split, count in (("train", train), ("test", test))
        for i in range(count)
    ]
    names = tuple(f"class_{c:03d}" for c in range(classes))
    return Manifest("noise", "speech", names, tuple(rows), "1", synthetic=True)
