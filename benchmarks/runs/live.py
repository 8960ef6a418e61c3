"""What people see of many runs: a live table in a terminal; without one, a line an event, and one
every 20 s in which nothing else is told.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from benchmarks.launchers import Event
from benchmarks.runs.many import Cell, Ended

SILENCE = 20.0  # seconds without a line, where there is no terminal
MOST_ROWS = 20  # of runs in hand
NAMED = 4  # of them in one line
COUNTED = ("done", "reused", "failed", "not applicable")


@dataclass
class _Running:
    """A run in hand: since when, and how many of its steps are done."""

    title: str
    worker: str
    since: float
    done: int = 0
    total: int = 0

    @property
    def share(self) -> str:
        return f"{self.done / self.total:.0%}" if self.total else "begins"


class Live:
    """A ``Display`` of ``total`` runs. ended: as ``run_many`` fills it, and what was done before.

    expected: seconds that a run takes, as far as known before the first one ends.
    """

    def __init__(
        self,
        console: Console,
        ended: Mapping[str, Ended],
        *,
        total: int,
        workers: int,
        expected: float | None = None,
    ) -> None:
        self.console, self.ended, self.total = console, ended, total
        self.workers, self.expected = workers, expected
        self._running: dict[str, _Running] = {}
        self._waiting: set[str] = set()
        self._before = len(ended)
        self._since = self._spoken = time.monotonic()
        self._live = RichLive(
            console=console, get_renderable=self._table, transient=True, refresh_per_second=4
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def __call__(self, event: Event | None, cell: Cell | None) -> None:
        if event is None:
            if not self.console.is_terminal and time.monotonic() - self._spoken >= SILENCE:
                self.line(self.summary())
            return
        if event.kind == "said":
            self.line(str(event.data["line"]))
        elif cell is not None:
            self._hear(event, cell)

    def line(self, words: str) -> None:
        self._spoken = time.monotonic()
        self.console.print(words, soft_wrap=True, highlight=False, markup=False)

    def _hear(self, event: Event, cell: Cell) -> None:
        key, data = event.key, event.data
        if event.kind == "begun":
            self._running[key] = _Running(cell.title, event.worker, time.monotonic())
        elif event.kind == "told":
            running = self._running.get(key)
            if running is not None and "total" in data:
                running.done, running.total = data["done"], data["total"]
            if "line" in data:
                self.line(str(data["line"]))
        elif event.kind == "waits":
            self._running.pop(key, None)
            if key not in self._waiting:
                self._waiting.add(key)
                self.line(f"{cell.title}: waits ({data['reason']})")
        else:
            begun = self._running.pop(key, None)
            self.line(self._words(event, cell, begun))

    def _words(self, event: Event, cell: Cell, begun: _Running | None) -> str:
        if event.kind == "died" and event.data["tried_again"]:
            return f"{cell.title}: {event.data['reason']}; it is tried again"
        end = self.ended[event.key]
        counted = sum(e.state in COUNTED for e in self.ended.values())
        words = {"reused": "done before, result reused"}.get(end.state, end.state)
        seconds = 0.0 if begun is None else time.monotonic() - begun.since
        took = f", {duration(seconds)}" if end.state == "done" else ""
        why = f": {end.reason.partition(chr(10))[0]}" if end.reason else ""
        number = "" if cell.title.startswith("[") else f"[{counted}/{self.total}] "
        return f"{number}{cell.title}: {words}{took}{why}"

    def summary(self) -> str:
        """How far all of it is, in a line."""
        counts = dict.fromkeys(COUNTED, 0)
        for end in self.ended.values():
            if end.state in counts:
                counts[end.state] += 1
        done = counts["done"] + counts["reused"]
        words = [f"{done} of {self.total} done"]
        words += [f"{counts[s]} {s}" for s in ("failed", "not applicable") if counts[s]]
        running = [f"{r.title} {r.share}" for r in self._running.values()]
        more = ", ..." * (len(running) > NAMED)
        words += [f"running: {', '.join(running[:NAMED])}{more}"] * bool(running)
        left = self.seconds_left()
        if left is not None:
            words.append(f"about {duration(left)} left")
        return ", ".join(words)

    def seconds_left(self) -> float | None:
        """By those that have ended so far, else by what is ``expected``; None: nothing is known."""
        here = len(self.ended) - self._before
        open_ = self.total - len(self.ended)
        if not open_:
            return None
        if here:
            return (time.monotonic() - self._since) / here * open_
        return None if self.expected is None else self.expected * open_ / self.workers

    def _table(self) -> Table:
        table = Table(title=Text(self.summary()), title_justify="left", box=None)
        for name in ("worker", "run", "steps", "since"):
            table.add_column(name, no_wrap=name != "run")
        now = time.monotonic()
        for running in list(self._running.values())[:MOST_ROWS]:
            since = duration(now - running.since)
            table.add_row(running.worker, Text(running.title), running.share, since)
        return table


def duration(seconds: float) -> str:
    """In words: 12 s, 5 min, 3.2 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
