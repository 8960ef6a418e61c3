"""The cells of ``medley bench``: one after the other here, or beside each other in processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.one import PRELOAD, shared_data, work
from benchmarks.launchers import Event
from benchmarks.launchers.local import LocalLauncher
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.runs.finished import reused
from benchmarks.runs.live import Live
from benchmarks.runs.many import Cell, CellsFailed, Ended, graphics_cards, run_many, worker_count
from benchmarks.runs.terminal import TerminalObserver
from benchmarks.tracking.parent import Parents
from multimodal.errors import UserError

LEAST = 2  # cells that a process is worth, which takes seconds to start


@dataclass(frozen=True)
class Several:
    """All cells of some configs, checked. workers: processes that run them; 1: none but this."""

    grids: Sequence[Cells]
    workers: int

    @classmethod
    def checked(
        cls, configs: Sequence[RunConfig], workers: int | None, *, fresh: bool = False
    ) -> Several:
        """UserError as ``Cells``. What several processes need is decoded on disk at once."""
        count = _workers(configs, workers, fresh=fresh)
        grids = [
            Cells(config, fresh=fresh, data=shared_data(config) if count > 1 else None)
            for config in configs
        ]
        return cls(grids, count)

    def run(self, console: Console) -> list[Result]:
        """One run of the store stands for each config, and holds what its cells amount to."""
        parents = [Parents(grid.cells, grid.config.to_yaml()) for grid in self.grids]

        def ended(*, whole: bool = False) -> None:
            for parent in parents:
                parent.update(ended=whole)

        run = self._beside if self.workers > 1 else self._in_turn
        try:
            return run(console, ended)
        finally:
            ended(whole=True)

    def _titles(self) -> Iterator[tuple[Cells, int, str]]:
        """Every cell, by its grid and its number there, with what people call it."""
        total, at = sum(len(grid.cells) for grid in self.grids), 0
        for grid in self.grids:
            data = f"{grid.manifest.name} " if len(self.grids) > 1 else ""
            for number, cell in enumerate(grid.cells):
                at += 1
                yield grid, number, f"[{at}/{total}] {data}{cell.title}"

    def _in_turn(self, console: Console, after: Callable[[], None]) -> list[Result]:
        results = []
        with TerminalObserver(console) as observer:
            for grid, number, title in self._titles():
                observer.title = title
                results.append(grid.run_cell(number, observer))
                if grid.done[number] is not None:
                    console.print(f"{title}: {reused(results[-1])}", soft_wrap=True)
                after()
        return results

    def _beside(self, console: Console, after: Callable[[], None]) -> list[Result]:
        """UserError, or CellsFailed for a fault of ours, when all that can be run has been."""
        waiting, folders, ended = dict[str, Cell](), list[Path](), dict[str, Ended]()
        for grid, number, title in self._titles():
            cell, done = grid.cells[number], grid.done[number]
            folders.append(cell.folder)
            if done is None:
                waiting[str(cell.folder)] = Cell(cell, title)  # two files may have one cell
            else:
                grid.run_cell(number)  # what it still owes
                ended[str(cell.folder)] = Ended("reused")
                console.print(f"{title}: {reused(done)}", soft_wrap=True)
        gpus = graphics_cards(grid.config for grid in self.grids)
        launcher = LocalLauncher(workers=self.workers, preload=PRELOAD, gpus=gpus)
        with Live(console, ended, total=len(set(folders)), workers=self.workers) as live:

            def heard(event: Event | None, cell: Cell | None) -> None:
                live(event, cell)
                if event is not None and event.kind == "done":
                    after()

            run_many(work, list(waiting.values()), launcher, heard, ended)
        ends = [(folder, ended[str(folder)]) for folder in folders]
        failed = [(folder, end) for folder, end in ends if end.state not in ("done", "reused")]
        if failed:
            words = "\n".join(f"{folder}: {end.reason}" for folder, end in failed)
            raise CellsFailed(words) if any(end.ours for _, end in failed) else UserError(words)
        return [load_result(folder / RESULT_FILE) for folder in folders]


def _workers(configs: Sequence[RunConfig], wanted: int | None, *, fresh: bool) -> int:
    told = [config.workers for config in configs if config.workers is not None]
    wanted = max(told, default=None) if wanted is None else wanted
    if wanted is None and all(config.quick for config in configs):
        return 1
    folders = [cell.folder for config in configs for cell in config.cells()]
    waiting = sum(fresh or not (folder / RESULT_FILE).is_file() for folder in folders)
    return worker_count(wanted, waiting, gpus=graphics_cards(configs), least=LEAST)
