"""``medley grid``."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from benchmarks.cli.groups import ConfigArgument, Overrides


def add_grid(app: typer.Typer) -> None:
    app.command()(grid)


def grid(
    config: ConfigArgument,
    overrides: Overrides = None,
    on: Annotated[
        Literal["local", "ray", "slurm"] | None,
        typer.Option(
            help="Processes of this machine, a Ray cluster, or jobs of Slurm. Default: the "
            "config's launcher, else local."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells at once. Default: MEDLEY_WORKERS, else one a GPU, else one a core, as far "
            "as memory reaches.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="With --on ray: a cluster that runs already; default: one of its own."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the cells, and how long they may take.")
    ] = False,
    fresh: Annotated[bool, typer.Option(help="Delete earlier runs of the cells first.")] = False,
) -> None:
    """Run many cells of many configs beside each other; the same command again resumes them.

    CONFIG names configs of bench, align or finetune (`base`) and what varies (`product`, `zip`,
    `cells`, `exclude`, `seeds`, `select`). A cell is a run like any other, in its own folder:
    finished ones are reused, and one that fails stops no other. docs/grid.md tells the rest.

    Examples:

    `medley grid configs/grid/everything_synthetic.yaml --dry-run`

    `medley grid configs/grid/everything_real.yaml data_root=DATA --workers 4`

    `medley grid my.yaml seeds=[1,2,3] settings.training.epochs=2 --on ray --address auto`
    """
    from benchmarks.commands.grid.command import run_grid

    try:
        run_grid(
            config,
            overrides or [],
            on=on,
            workers=workers,
            address=address,
            dry_run=dry_run,
            fresh=fresh,
        )
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None
