"""Many runs by a launcher: each to its end, whatever becomes of the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from benchmarks.config.base import CommandConfig
from benchmarks.launchers import Event, Launcher, Task, Work
from benchmarks.launchers.resources import cores, fitting
from benchmarks.runs.attempts import as_plain, keep_death
from benchmarks.runs.machine import peak_memory
from multimodal.errors import UserError

WORKERS_VARIABLE = "MEDLEY_WORKERS"


class Cell(NamedTuple):
    """A run that is to be made. title: for people."""

    config: CommandConfig
    title: str

    @property
    def key(self) -> str:
        return str(self.config.folder)


class Ended(NamedTuple):
    """state: done, reused (it was done before), failed, not applicable, stopped. ours: it failed by
    a fault of ours, not of what the user gave.
    """

    state: str
    reason: str = ""
    ours: bool = False


class CellsFailed(RuntimeError):
    """A fault of ours in another process; its traceback stands in ``failed.json`` of the run."""


class Display(Protocol):
    """What people see meanwhile."""

    def __call__(self, event: Event | None, cell: Cell | None) -> None: ...


def run_many(
    work: Work, cells: Sequence[Cell], launcher: Launcher, display: Display, ended: dict[str, Ended]
) -> None:
    """Run all of them; ``ended`` is filled with what became of each, by its key, as they end.

    KeyboardInterrupt: it was stopped; what had begun goes on from its last checkpoint next time.
    """
    by_key = {cell.key: cell for cell in cells}
    assert len(by_key) == len(cells), "a run stands twice"

    def hear(event: Event | None) -> None:
        cell = None if event is None else by_key.get(event.key)
        if event is not None and cell is not None and (end := _end(event, cell)) is not None:
            ended[event.key] = end
        display(event, cell)

    tasks = [Task(cell.key, as_plain(cell.config, cell.title)) for cell in cells]
    launcher.run(work, tasks, hear)


def worker_count(
    wanted: int | None, runs: int, *, memory: int | None = None, gpus: int = 0, least: int = 1
) -> int:
    """Processes for so many runs: as ``wanted`` or as MEDLEY_WORKERS says, else one a GPU if there
    are GPUs, else one a core; never more than runs, or than memory (bytes of one) has room for.

    least: runs that a process of its own is worth, where nobody says how many.
    """
    told = os.environ.get(WORKERS_VARIABLE, "")
    if wanted is None and told:
        if not told.isdecimal() or int(told) < 1:
            raise UserError(f"{WORKERS_VARIABLE}={told}: give a whole number from 1 on.")
        wanted = int(told)
    if wanted is not None:
        return max(1, min(wanted, runs))
    assumed = memory or peak_memory(torch.device("cpu"))["process"]  # as much as this one, at least
    return fitting(max(1, min(gpus or cores(), runs // least)), assumed)


def graphics_cards(configs: Iterable[CommandConfig]) -> int:
    """GPUs here, if a config asks for one, or takes one where there is."""
    wanted = {config.training.device for config in configs}  # pyright: ignore
    return torch.cuda.device_count() if wanted - {"cpu"} and torch.cuda.is_available() else 0


def _end(event: Event, cell: Cell) -> Ended | None:
    data: Any = event.data
    if event.kind == "done":
        return Ended(data["state"], data.get("reason", ""), data.get("ours", False))
    if event.kind == "stopped":
        return Ended("stopped")
    if event.kind == "died":
        keep_death(cell.config, data["reason"], data.get("traceback", ""))
        return None if data["tried_again"] else Ended("failed", data["reason"])
    return None
