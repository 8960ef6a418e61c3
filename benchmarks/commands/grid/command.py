"""What ``medley grid`` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.commands.grid.config import GridConfig, SelectConfig
from benchmarks.commands.grid.forecast import Forecast, forecast
from benchmarks.commands.grid.plan import PlannedCell, expand
from benchmarks.commands.grid.select import (
    asked,
    choose,
    chosen_cells,
    save,
    selection_table,
    tried,
)
from benchmarks.commands.grid.work import PRELOAD, work
from benchmarks.config.base import CommandConfig
from benchmarks.config.loading import load_config
from benchmarks.launchers import LAUNCHERS, Event, Launcher
from benchmarks.results.failures import FAILURE_FILE, UNFIT
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.runs.live import Live, duration
from benchmarks.runs.machine import pick_device
from benchmarks.runs.many import (
    Cell,
    CellsFailed,
    Ended,
    graphics_cards,
    run_many,
    worker_count,
)
from benchmarks.runs.states import state_of
from benchmarks.runs.terminal import print_places
from benchmarks.runs.workspace import check_writable, clear
from benchmarks.tracking.parent import Parents
from benchmarks.tracking.store import check_store
from multimodal.credentials import shown
from multimodal.errors import UserError
from multimodal.registry import Config

MIB = 2**20


def run_grid(
    path: Path,
    overrides: Sequence[str],
    *,
    on: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    dry_run: bool = False,
    fresh: bool = False,
) -> None:
    """Run a grid, or say what it would run. UserError, or CellsFailed for a fault of ours, when all
    that can be run has been, if a cell has failed.
    """
    grid = load_config(path, overrides, model=GridConfig)
    launching = _launching(grid, on, address)
    here = launching.registered_name == "local"
    plan, err, out = expand(grid), Console(stderr=True), Console()
    for note in plan.notes:
        err.print(note, markup=False, soft_wrap=True, highlight=False)
    select, choices = grid.select, list[PlannedCell]()
    if select is not None:
        choices = [tried(cell, select) for cell in asked(plan.cells, select)]
    first = choices or plan.cells
    known = forecast(first)
    gpus = graphics_cards(cell.config for cell in first) if here else 0
    count = workers or len(first)
    if here:
        count = worker_count(workers, len(first), memory=known.memory, gpus=gpus)
    if dry_run:
        out.print(_table(first))
        out.print(_words(first, known, count), markup=False, soft_wrap=True, highlight=False)
        return
    _check([cell.config for cell in (*choices, *plan.cells)], away=not here)
    launcher = launching.build(  # pyright: ignore[reportAttributeAccessIssue]
        workers=count if here else workers, preload=PRELOAD, gpus=gpus
    )

    def run(cells: Sequence[PlannedCell]) -> dict[str, Ended]:
        for cell in cells if fresh else ():
            clear(cell.config.folder)
        return run_cells(cells, launcher, err, workers=count, expected=known.mean)

    ended, cells = run(first), plan.cells
    if select is not None:
        cells = _selected(plan.cells, choices, select, out)
        ended |= run(cells) if cells else {}
    _report([*choices, *cells], ended, out, shown_of=cells)


def _selected(
    cells: Sequence[PlannedCell],
    choices: Sequence[PlannedCell],
    select: SelectConfig,
    out: Console,
) -> list[PlannedCell]:
    """The cells that were chosen; all choices are kept in a file and shown."""
    known = {
        cell.config.folder: load_result(choice.config.folder / RESULT_FILE)
        for cell, choice in zip(asked(cells, select), choices, strict=True)
        if (choice.config.folder / RESULT_FILE).is_file()
    }
    selections = choose(cells, known, select)
    out.print(selection_table(selections))
    for file in save(selections, select):
        out.print(f"Selection: {file}", markup=False, soft_wrap=True, highlight=False)
    return chosen_cells(selections)


def run_cells(
    cells: Sequence[PlannedCell],
    launcher: Launcher,
    console: Console,
    *,
    workers: int,
    expected: float | None = None,
) -> dict[str, Ended]:
    """What became of each, by its folder."""
    ended: dict[str, Ended] = {}
    live = Live(console, ended, total=len(cells), workers=workers, expected=expected)
    live.line(f"{len(cells)} cells, {workers} worker{'s' * (workers > 1)}")
    configs = [cell.config for cell in cells]
    parents = Parents(configs, yaml.safe_dump([c.hash for c in configs]))

    def heard(event: Event | None, cell: Cell | None) -> None:
        live(event, cell)
        if event is not None and event.kind == "done":
            parents.update()

    with live:
        run_many(work, [Cell(c.config, c.title) for c in cells], launcher, heard, ended)
        parents.update(ended=True)
    live.line(live.summary())
    return ended


def results_of(cells: Sequence[PlannedCell]) -> list[Result]:
    """Of the cells that are finished, in their order."""
    folders = [cell.config.folder for cell in cells]
    return [load_result(f / RESULT_FILE) for f in folders if (f / RESULT_FILE).is_file()]


def _launching(grid: GridConfig, on: str | None, address: str | None) -> Config:
    """The config of the launcher that the command line, else the file, names; else local."""
    own = grid.launcher
    name = on or ("local" if own is None else own.registered_name)
    settings = own.dump() if own is not None and own.registered_name == name else {"name": name}
    if address is not None:
        if "address" not in LAUNCHERS.config(name).model_fields:
            raise UserError(f"--address: is of --on ray, not of {name}; leave it out.")
        settings = {**settings, "address": address}
    return LAUNCHERS.parse(settings)


def _refuse_secrets(configs: Sequence[CommandConfig]) -> None:
    """UserError for an address with a password, which would be written into files of jobs."""
    for uri in {config.tracking.uri for config in configs}:
        if uri is not None and shown(uri) != uri:
            raise UserError(
                f"tracking.uri={shown(uri)}: its user and password would be sent to other "
                "processes; leave them in the environment (MLFLOW_TRACKING_USERNAME, _PASSWORD)."
            )


def _check(configs: Sequence[CommandConfig], *, away: bool) -> None:
    """UserError for what would stop every cell: the device, the output folder, the store.

    away: they run in processes that others start.
    """
    if away:
        _refuse_secrets(configs)
    for device in {config.training.device for config in configs}:  # pyright: ignore
        pick_device(device)
    for place in {config.folder.parent for config in configs}:
        check_writable(place)
    for config in {(c.output_dir, c.tracking.model_dump_json()): c for c in configs}.values():
        check_store(config.tracking, Path(config.output_dir))


def _report(
    cells: Sequence[PlannedCell],
    ended: dict[str, Ended],
    out: Console,
    *,
    shown_of: Sequence[PlannedCell],
) -> None:
    """shown_of: the cells whose results are reported. UserError, CellsFailed: some have none."""
    from benchmarks.reports.tables import comparable
    from benchmarks.reports.terminal import print_overview, print_table

    results = results_of(shown_of)
    if results:
        (print_table if len(comparable(results)) == 1 else print_overview)(results, out)
    for cell in {cell.config.folder.parent: cell for cell in shown_of}.values():
        if any(result.experiment == cell.config.experiment for result in results):
            print_places(cell.config, out)
    without = [(c, end) for c in cells if (end := ended[str(c.config.folder)]).reason]
    if without:
        out.print(_reasons(without))
    failed = [(cell, end) for cell, end in without if end.state != UNFIT]
    if failed:
        words = (
            f"{len(failed)} of {len(cells)} cells failed; each one's folder says why, such as "
            f"{failed[0][0].config.folder / FAILURE_FILE}; the same command tries them again."
        )
        raise CellsFailed(words) if any(end.ours for _, end in failed) else UserError(words)


def _reasons(without: Sequence[tuple[PlannedCell, Ended]]) -> Table:
    """A line for each reason that cells of a row have, with their number."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for cell, end in without:
        row = f"{cell.config.dataset.registered_name} {cell.scenario} {cell.row}"
        counts[row, end.state, end.reason.partition("\n")[0]] += 1
    table = Table(title="cells without a result", title_justify="left")
    for name in ("cells", "of", "state", "why"):
        table.add_column(name, overflow="fold")
    for (row, state, reason), count in counts.items():
        table.add_row(str(count), Text(row), state, Text(reason))
    return table


def _table(cells: Sequence[PlannedCell]) -> Table:
    table = Table(title=f"{len(cells)} cells", title_justify="left")
    for name in ("learner", "data", "scenario", "seed", "changes", "hash", "state"):
        table.add_column(name, overflow="fold", no_wrap=name in ("seed", "hash"))
    for cell in cells:
        config = cell.config
        data, changes = config.dataset.registered_name, cell.changes
        state = state_of(config.folder)
        words = (cell.row, data, cell.scenario, str(cell.seed), changes, config.hash, state)
        table.add_row(*map(Text, words))
    return table


def _words(cells: Sequence[PlannedCell], known: Forecast, workers: int) -> str:
    """The forecast."""
    states = [state_of(cell.config.folder) for cell in cells]
    left, total = len(known.seconds), known.total(workers)
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    if not left:
        return f"{counts}; nothing is left to do."
    unknown = left - len(known.known)
    time = "time unknown (nothing like it has ended here)"
    if total is not None:
        more = f", and {unknown} cells of unknown time" if unknown else ""
        time = f"about {duration(total)} with {workers} worker{'s' * (workers > 1)}{more}"
    memory = "memory unknown"
    if known.memory is not None:
        memory = f"up to {known.memory / MIB:.0f} MiB a worker"
    return f"{counts}; left: {time}; {memory}."
