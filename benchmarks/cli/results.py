"""The command that shows what runs came to: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_results(app: typer.Typer) -> None:
    app.command()(report)


def report(
    path: Annotated[Path, typer.Argument(help="An output folder, an experiment or a run.")] = Path(
        "runs"
    ),
    against: Annotated[
        str | None,
        typer.Option(
            metavar="ROW",
            help="Also print, and put into the pages, how far the other rows are from this one: "
            "mean and 95 % t interval of the paired differences over the seeds that both have.",
        ),
    ] = None,
    resend: Annotated[
        bool, typer.Option("--resend", help="Send to MLflow what did not reach it.")
    ] = False,
    uri: Annotated[str | None, typer.Option(help="With --resend: the tracking store.")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Print the tables as csv, markdown, latex or json instead, and write no page.",
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Rows by this metric, the best first.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Only two rows, or two runs by their hashes: settings that differ, metrics, and "
            "paired differences.",
        ),
    ] = None,
) -> None:
    """Print the result tables of finished runs and write their HTML pages.

    Tables of `medley align` and `medley zeroshot` are followed by the paired differences to
    their first row; those of all commands by the differences to the row that --against names.

    Examples:

    `medley report`

    `medley report runs/fsdd_si_blurry --against er`

    `medley report runs/fsdd_si_blurry --against "er, whitened"`

    `medley report runs/fsdd_si_blurry --format latex --sort a_auc`

    `medley report runs/fsdd_si_blurry --compare er er_ace`

    `medley report runs --resend`
    """
    from benchmarks.commands.report import run_report

    run_report(
        path,
        against=against,
        resend_runs=resend,
        uri=uri,
        form=form,
        sort=sort,
        compare=compare,
    )
