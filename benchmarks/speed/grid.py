"""What a grid costs beside its cells: seconds a cell, and what the parent keeps of each.

200 trivial cells (the class of the majority, on 24 tones, without a store) in two processes, as
``medley grid`` runs them; the cell's own seconds are those of its result. The command runs in a
process of its own. What that keeps of a cell is told by as many cells more: by then whatever is
loaded once (MLflow: 143 MiB) is there. Linux only.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

RATE, WORKERS, CLASSES, CLIPS = 16_000, 2, 4, 6
BASE = """\
experiment: trivial
dataset: {{name: folder, root: {root}, modality: speech}}
modality: speech
scenario: {{name: class_incremental, num_experiences: 2}}
encoder: {{name: compact, width: 16, depth: 1, heads: 2}}
learners: [majority]
training: {{epochs: 1, device: cpu}}
tracking: {{store: {store}}}
output_dir: {out}
"""


def status_mib(key: str) -> float:
    """VmRSS (resident) of this process."""
    text = Path("/proc/self/status").read_text()
    return float(text.split(f"{key}:")[1].split()[0]) / 1024


def write_clips(place: Path) -> None:
    for label in range(CLASSES):
        folder = place / f"tone_{label}"
        folder.mkdir(parents=True)
        for number in range(CLIPS):
            times = np.arange(RATE // 10) / RATE
            wave = 0.5 * np.sin(2 * np.pi * 300 * (label + 1) * times + number)
            soundfile.write(folder / f"{number}.wav", wave, RATE)


def measure(place: str, cells: int, store: str) -> dict[str, Any]:
    """Two grids, in this process and its workers: the first is timed, the second weighed."""
    from benchmarks.commands.grid.command import results_of, run_cells
    from benchmarks.commands.grid.config import GridConfig
    from benchmarks.commands.grid.plan import expand
    from benchmarks.commands.grid.work import PRELOAD
    from benchmarks.launchers.local import LocalLauncher

    base = Path(place) / f"{store}.yaml"
    out = Path(place) / store
    base.write_text(BASE.format(root=Path(place) / "clips", out=out, store=store))

    def run(seeds: range) -> float:
        """Seconds of the cells themselves."""
        plan = expand(GridConfig.parse({"base": str(base), "seeds": list(seeds)}))
        with Path(os.devnull).open("w") as nowhere:
            console = Console(file=nowhere)
            launcher = LocalLauncher(workers=WORKERS, preload=PRELOAD)
            ended = run_cells(plan.cells, launcher, console, workers=WORKERS)
        assert all(end.state == "done" for end in ended.values()), ended
        return sum(result.seconds for result in results_of(plan.cells))

    begun = time.perf_counter()
    own = run(range(cells))
    wall, before = time.perf_counter() - begun, status_mib("VmRSS")
    run(range(cells, 2 * cells))
    return {
        "wall_seconds": wall,
        "overhead_seconds_per_cell": (wall * WORKERS - own) / cells,
        "parent_growth_mib": status_mib("VmRSS") - before,
    }


def main() -> None:
    cells = 20 if "--quick" in sys.argv else 200
    stores = ("none",) if "--quick" in sys.argv else ("none", "mlflow")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        write_clips(Path(name) / "clips")
        context = multiprocessing.get_context("spawn")
        for store in stores:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found[store] = pool.submit(measure, name, cells, store).result()
    heads = ("store", "wall s", "overhead s a cell", "parent grows by MiB")
    table = Table(*heads, title=f"{cells} trivial cells, {WORKERS} workers")
    for store, values in found.items():
        table.add_row(store, *(f"{value:.2f}" for value in values.values()))
    Console(width=100).print(table)
    figures = {key: round(value, 3) for key, value in found["none"].items()}
    print(json.dumps({"cells": cells, "workers": WORKERS, **figures}))


if __name__ == "__main__":
    main()
