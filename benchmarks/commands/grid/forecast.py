"""What is left of a grid, by runs that have ended before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.commands.grid.plan import PlannedCell, entry_of
from benchmarks.results.result import RESULT_FILE
from benchmarks.runs.states import DONE, state_of


class Forecast(NamedTuple):
    """Of the cells that are not done. seconds: of each, by folder, None where nothing like it
    has ended. memory: bytes of the largest process so far, None if there is none.
    """

    seconds: dict[Path, float | None]
    memory: int | None

    @property
    def known(self) -> list[float]:
        return [s for s in self.seconds.values() if s is not None]

    @property
    def mean(self) -> float | None:
        """Seconds of a cell, of those that are known."""
        return fmean(self.known) if self.known else None

    def total(self, workers: int) -> float | None:
        """Seconds of all that are known, shared among workers; None: of none is it known."""
        return sum(self.known) / workers if self.known else None


def forecast(cells: Sequence[PlannedCell]) -> Forecast:
    """A cell takes as long as others of its row and stream did, or else of its experiment."""
    past = {folder: _past(folder) for folder in {c.config.folder.parent for c in cells}}
    seconds: dict[Path, float | None] = {}
    for cell in cells:
        folder = cell.config.folder
        if state_of(folder) == DONE:
            continue
        kin = [r for r in past[folder.parent] if r.get("quick") == cell.config.quick]
        alike = [r for r in kin if _like(cell) == (r.get("learner"), r.get("scenario"))]
        times = [r["seconds"] for r in alike or kin]
        seconds[folder] = fmean(times) if times else None
    peaks = [
        r["peak_memory_bytes"].get("process", 0)
        for results in past.values()
        for r in results
        if isinstance(r.get("peak_memory_bytes"), dict)
    ]
    return Forecast(seconds, max(peaks, default=0) or None)


def _like(cell: PlannedCell) -> tuple[str, str]:
    scenario = getattr(cell.config, "scenario", None)
    name = cell.config.command if scenario is None else scenario.registered_name
    return entry_of(cell.config).registered_name, name


def _past(experiment: Path) -> list[dict[str, Any]]:
    """What results say of themselves; those that cannot be read say nothing here."""
    found = []
    for file in experiment.glob(f"*/{RESULT_FILE}"):
        try:
            result = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(result, dict) and isinstance(result.get("seconds"), int | float):
            found.append(result)
    return found
