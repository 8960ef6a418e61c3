"""What ``medley bench`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import load_config
from benchmarks.config.settings import find_configs
from benchmarks.runs.plan import print_plan
from benchmarks.runs.terminal import print_places


def run_bench(
    path: Path,
    overrides: Sequence[str],
    *,
    fresh: bool = False,
    dry_run: bool = False,
    workers: int | None = None,
) -> None:
    """Run a grid, or those of all configs of a folder; print one table and say where to look.

    dry_run: only list the runs. workers: processes that take its cells beside each other; with 1
    all is done in this one. None: as the configs say, else ``worker_count``, two cells for each at
    least; quick ones stay here.
    """
    from benchmarks.commands.bench.several import Several
    from benchmarks.reports.terminal import print_overview, print_table
    from benchmarks.runs.terminal import checking
    from multimodal.modalities.text import TextAdapter

    console, out = Console(stderr=True), Console()
    files = find_configs(path)
    configs = [load_config(file, overrides, model=RunConfig) for file in files]
    refuse_idle(files, overrides, model=RunConfig)
    if dry_run:
        return print_plan([c for config in configs for c in config.cells()], out, fresh=fresh)
    with checking(console):  # all checks come first
        several = Several.checked(configs, workers, fresh=fresh)
    for grid in several.grids:
        if fresh:
            grid.clear()
        _print_damaged(grid.data.signals.damaged, console)
        for note in grid.notes:
            console.print(f"{grid.manifest.name}: {note}", markup=False, soft_wrap=True)
        if isinstance(grid.data.adapter, TextAdapter):
            console.print(f"{grid.manifest.name}: {grid.data.adapter.truncation_report()}")
    results = several.run(console)
    (print_table if len(several.grids) == 1 else print_overview)(results, out)
    for config in {config.experiment: config for config in configs}.values():
        print_places(config, out)


def _print_damaged(damaged: dict[int, str], console: Console) -> None:
    shown = [*list(damaged.values())[:10], *["..."] * (len(damaged) > 10)]
    for words in shown:
        console.print(words, markup=False, soft_wrap=True)
