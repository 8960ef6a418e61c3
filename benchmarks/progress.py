"""What a terminal shows while a grid runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from continual.strategy import LearnerStrategy

REFRESH_SECONDS = 0.2


class TerminalObserver:
    """A progress bar of the run in hand on standard error, and a line for each experience done.

    Without a terminal (a log file, CI) only the lines are printed.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title = ""
        self._next = 0.0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, note="")

    def __enter__(self) -> TerminalObserver:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def begin(self, total_steps: int, done_steps: int) -> None:
        self._progress.reset(
            self._task, total=total_steps, completed=done_steps, description=self.title, note=""
        )
        if done_steps:
            self.console.print(f"{self.title}: resumed at step {done_steps} of {total_steps}")

    def step(self, strategy: LearnerStrategy) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + REFRESH_SECONDS
        at, count = strategy.position, len(strategy.rows)
        loss = float(strategy.loss.detach())
        note = f"experience {min(at.experience + 1, count)}/{count}  loss {loss:.3f}"
        self._progress.update(self._task, completed=at.total_steps, note=note)

    def experience_done(self, index: int, count: int, measure: str, scores: list[float]) -> None:
        shown = " ".join(f"{100 * score:5.1f}" for score in scores)
        words = f"{self.title}: experience {index + 1}/{count}  test {measure} % {shown}"
        self.console.print(words, soft_wrap=True, highlight=False)
