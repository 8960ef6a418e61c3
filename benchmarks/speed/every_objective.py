"""Every registered objective at its default settings: time over that of clip, memory of its tiles.

Each is given what it asks for: the fewest views it takes, false texts or signals beside each case,
numbers of the cases; where equal texts are all right, four cases share each text. Embeddings are
random, float32, and all have gradients, those of extra texts too.

Time: forward and backward of ``Loss.value`` on one thread, the processor's own clock, all of them
in turn in one process; figures are medians of the ratios of each round. Memory: what the tiled form
adds to the peak of a process that does one step, at two batch sizes, gradients of the embeddings
among it; ``growth`` is the larger batch's over the smaller's. Where memory grows with the batch it
is about the ratio of the sizes, 4; where it grew with all pairs it would tend to 16. glibc gives
blocks from 1 MiB on back at once there: what its heap keeps of freed ones grows with their number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.runs.machine import peak_memory
from benchmarks.speed.harness import print_times, ratio, time_all
from multimodal.objectives import OBJECTIVES
from multimodal.objectives.views import TEXT, Extra, Views, ViewsConfig

WIDTH = 512
BATCH = 1024
TILE = 256
MEMORY_BATCHES = (1024, 4096)
CASES_A_TEXT = 4
# Without those of augmented views, whose cost is that of encoding them.
NAMES = tuple(name for name in OBJECTIVES.names() if not OBJECTIVES.parse(name).augmented)  # pyright: ignore


def config_of(name: str, tile: int | None = None) -> ViewsConfig:
    """Default settings; tiled, if it can be."""
    tiled = tile is not None and name != "simple_contrastive"
    config = OBJECTIVES.parse({"name": name, "tile": tile} if tiled else name)
    assert isinstance(config, ViewsConfig)
    return config


def fewest_views(config: ViewsConfig) -> tuple[str, ...]:
    names = ("first", TEXT)
    try:
        config.check_views(names)
    except ValueError:
        names = ("first", "second", TEXT)
        config.check_views(names)
    return names


def views_of(config: ViewsConfig, batch: int, width: int = WIDTH) -> Views:
    """Of ``batch`` cases, the same for every objective of one batch size as far as it takes it."""
    random = torch.Generator().manual_seed(batch)

    def vectors(*shape: int) -> Tensor:
        return torch.randn(*shape, width, generator=random).requires_grad_()

    embeddings = {name: vectors(batch) for name in fewest_views(config)}
    beside = {**config.extra_texts, **config.extra_signals}
    every = torch.arange(batch)
    return Views(
        embeddings=embeddings,
        source=embeddings[TEXT].detach(),
        ids=every // CASES_A_TEXT if config.spares_equal_texts else every,
        scale=torch.tensor(config.start["scale"]).requires_grad_(),
        bias=torch.tensor(config.start["bias"]).requires_grad_(),
        extras={
            name: Extra(vectors(batch, count), torch.ones(batch, count, dtype=torch.bool))
            for name, count in beside.items()
        },
        keys=every,
        numbers=every,
        tables=config.tables(),
    )


def step_of(config: ViewsConfig, batch: int) -> Callable[[], None]:
    """A prepared step, on embeddings of its own."""
    views = views_of(config, batch)
    return lambda: config.of_views(views, gather=False).value.backward()


def time_over_clip(*, repeats: int) -> dict[str, float]:
    """Of each objective."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    works: dict[str, Callable[[], Callable[[], object]]] = {
        name: partial(step_of, config_of(name), BATCH) for name in NAMES
    }
    try:
        seconds = time_all(works, repeats=repeats, clock=time.process_time)
    finally:
        torch.set_num_threads(threads)
    print_times(f"forward and backward, batch {BATCH}, width {WIDTH}", seconds)
    return {name: ratio(seconds, name, "clip") for name in NAMES}


def tiled_mib(name: str, batch: int) -> float:
    """What a tiled step adds to the peak of this process, its embeddings not counted."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    step_of(config_of(name, 32), 64)()  # libraries are loaded before we measure
    work = step_of(config_of(name, TILE), batch)
    before = peak_memory(device)["process"]
    work()
    return (peak_memory(device)["process"] - before) / 2**20


def in_new_process(name: str, batch: int) -> float:
    """``tiled_mib`` there."""
    words = [sys.executable, "-m", "benchmarks.speed.every_objective", name, str(batch)]
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    return float(subprocess.run(words, env=env, check=True, capture_output=True).stdout)


def memory_growth_tiled() -> dict[str, dict[str, float]]:
    """Of each objective: MiB by batch size, and ``growth``."""
    found = {}
    for name in NAMES:
        few, many = (in_new_process(name, batch) for batch in MEMORY_BATCHES)
        mib = dict(zip(map(str, MEMORY_BATCHES), (round(few, 1), round(many, 1)), strict=True))
        found[name] = {**mib, "growth": round(many / few, 2)}
    return found


def all_figures(*, quick: bool) -> dict[str, object]:
    """The keys ``time_over_clip`` and ``memory_growth_tiled``."""
    over = time_over_clip(repeats=2 if quick else 7)
    growth = memory_growth_tiled()
    few, many = map(str, MEMORY_BATCHES)
    table = Table("objective", "time / clip", f"MiB at {few}", f"at {many}", "growth")
    table.title = f"batch {BATCH} of one thread; memory in tiles of {TILE}, {many} over {few} cases"
    for name in NAMES:
        row = growth[name]
        table.add_row(name, *(f"{x:g}" for x in (over[name], row[few], row[many], row["growth"])))
    Console(width=100).print(table)
    return {"time_over_clip": over, "memory_growth_tiled": growth}


if __name__ == "__main__":
    print(tiled_mib(sys.argv[1], int(sys.argv[2])))
