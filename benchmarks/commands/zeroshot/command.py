"""What ``medley zeroshot`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.commands.zeroshot.config import ZeroShotConfig
from benchmarks.commands.zeroshot.run import ZeroShotCells, single_models
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import load_config
from benchmarks.reports.terminal import print_table, print_wordings
from benchmarks.runs.plan import print_plan
from benchmarks.runs.terminal import checking, print_places
from benchmarks.tracking.parent import Parents


def run_zeroshot(
    path: Path, overrides: Sequence[str], *, fresh: bool = False, dry_run: bool = False
) -> None:
    """Evaluate every model of a config; print the table, the wordings, and where to look.

    dry_run: only list the runs.
    """
    config = load_config(path, overrides, model=ZeroShotConfig)
    refuse_idle([path], overrides, model=ZeroShotConfig)
    console, out = Console(stderr=True), Console()
    if dry_run:
        return print_plan(single_models(config), out, fresh=fresh)
    with checking(console):
        grid = ZeroShotCells(config, fresh=fresh)
    results, parents = [], Parents(grid.cells, config.to_yaml())
    with (
        checking(console, "evaluating"),
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        for number in range(len(grid.cells)):
            results.append(grid.run_cell(number, progress))
            parents.update(ended=len(results) == len(grid.cells))
    for warning in dict.fromkeys(w for r in results for w in r.evaluation.get("warnings", [])):
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    print_table(results, out, against=results[0])
    print_wordings(results, out)
    print_places(config, out, against=results[0])
