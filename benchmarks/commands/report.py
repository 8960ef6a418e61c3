"""What ``medley report`` does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from benchmarks.results.result import RESULT_FILE, Result
from multimodal.errors import UserError, did_you_mean


def run_report(
    path: Path,
    *,
    against: str | None = None,
    resend_runs: bool = False,
    uri: str | None = None,
    form: str | None = None,
    sort: str | None = None,
    compare: tuple[str, str] | None = None,
) -> None:
    """Tables and pages of what is found below ``path``, one of each an experiment.

    against: the row that the others are compared with. form: print the tables so and write no page.
    sort: the metric by which rows are sorted, the best first. compare: only two rows, or runs.
    UserError: no table has such a row, run or metric.
    """
    if compare is not None and (form is not None or against is not None):
        raise UserError("--compare: leave out --format and --against; it is a table of its own.")
    if form is not None or compare is not None:
        return _print_only(path, form, sort, compare)
    from benchmarks.reports.page import write_html
    from benchmarks.reports.terminal import print_table
    from benchmarks.results.files import find_results
    from benchmarks.tracking.tracker import resend

    out = Console()
    if resend_runs:
        # Also runs without a result: interrupted, failed, diverged.
        for folder in run_folders(path):
            out.print(resend(folder, uri=uri), markup=False, soft_wrap=True, highlight=False)
        if not any((folder / RESULT_FILE).is_file() for folder in run_folders(path)):
            return
    experiments: dict[Path, list[Result]] = {}
    for result in find_results(path):
        experiments.setdefault(result_folder(path, result).parent, []).append(result)
    if against is not None:
        _check_row(against, experiments.values())
    for folder, results in experiments.items():
        print_table(results, out, against=against, by=sort)
        page = path if (path / RESULT_FILE).is_file() else folder
        written = write_html(results, page / "report.html", against=against, by=sort)
        out.print(f"Report: {written}", markup=False, soft_wrap=True, highlight=False)


def _print_only(
    path: Path, form: str | None, sort: str | None, compare: tuple[str, str] | None
) -> None:
    from benchmarks.reports.compare import print_comparison
    from benchmarks.reports.exports import WRITERS, export
    from benchmarks.results.files import find_results

    if form is not None and form not in WRITERS:
        raise UserError(f"--format: no format {form!r}{did_you_mean(form, list(WRITERS))}")
    results = find_results(path)
    if form is not None:
        print(export(results, form, by=sort), end="")  # pyright: ignore[reportArgumentType]
    if compare is not None:
        print_comparison(results, compare, Console())


def _check_row(against: str, experiments: Iterable[list[Result]]) -> None:
    from benchmarks.reports.tables import by_learner, comparable

    groups = [group for results in experiments for group in comparable(results)]
    rows = list(dict.fromkeys(row for group in groups for row in by_learner(group)))
    if against not in rows:
        raise UserError(f"--against: no row {against!r} here{did_you_mean(against, rows)}")


def run_folders(path: Path) -> list[Path]:
    """Run folders at or below ``path`` with something to send; UserError if there is none."""
    from benchmarks.tracking.state import TRACKING_FILE

    files = [f for name in (TRACKING_FILE, RESULT_FILE) for f in path.rglob(name)]
    if not files:
        raise UserError(f"{path}: no run in it (no {TRACKING_FILE} and no {RESULT_FILE}).")
    return sorted({file.parent for file in files})


def result_folder(path: Path, result: Result) -> Path:
    """The run folder of a result that was found below ``path``."""
    for folder in (path, path / result.config_hash, path / result.experiment / result.config_hash):
        if (folder / RESULT_FILE).is_file():
            return folder
    raise UserError(f"{path}: run folder {result.config_hash} was renamed; give it its name back.")
