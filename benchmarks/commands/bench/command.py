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
from benchmarks.tracking.parent import Parent


def run_bench(
    path: Path, overrides: Sequence[str], *, fresh: bool = False, dry_run: bool = False
) -> None:
    """Run a grid, or those of all configs of a folder; print one table and say where to look.

    dry_run: only list the runs.
    """
    from benchmarks.commands.bench.cells import Cells
    from benchmarks.reports.terminal import print_overview, print_table
    from benchmarks.runs.finished import reused
    from benchmarks.runs.terminal import TerminalObserver, checking
    from multimodal.modalities.text import TextAdapter

    console, out = Console(stderr=True), Console()
    files = find_configs(path)
    configs = [load_config(file, overrides, model=RunConfig) for file in files]
    refuse_idle(files, overrides, model=RunConfig)
    if dry_run:
        return print_plan([c for config in configs for c in config.cells()], out, fresh=fresh)
    with checking(console):
        grids = [Cells(config, fresh=fresh) for config in configs]  # all checks come first
    for grid in grids:
        if fresh:
            grid.clear()
        _print_damaged(grid.data.signals.damaged, console)
        for note in grid.notes:
            console.print(f"{grid.manifest.name}: {note}", markup=False, soft_wrap=True)
        if isinstance(grid.data.adapter, TextAdapter):
            console.print(f"{grid.manifest.name}: {grid.data.adapter.truncation_report()}")
    total, results = sum(len(grid.cells) for grid in grids), []
    parents = [Parent(grid.config) for grid in grids]
    with TerminalObserver(console) as observer:
        for grid, parent in zip(grids, parents, strict=True):
            own = len(results)
            data = f"{grid.manifest.name} " if len(grids) > 1 else ""
            for number, cell in enumerate(grid.cells):
                observer.title = f"[{len(results) + 1}/{total}] {data}{cell.title}"
                results.append(grid.run_cell(number, observer))
                if grid.done[number] is not None:
                    console.print(f"{observer.title}: {reused(results[-1])}", soft_wrap=True)
                parent.update(results[own:])
    (print_table if len(grids) == 1 else print_overview)(results, out)
    for config in {config.experiment: config for config in configs}.values():
        print_places(config, out)


def _print_damaged(damaged: dict[int, str], console: Console) -> None:
    shown = [*list(damaged.values())[:10], *["..."] * (len(damaged) > 10)]
    for words in shown:
        console.print(words, markup=False, soft_wrap=True)
