"""What a terminal shows while runs go on, and where to look when they are done."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from benchmarks.config.base import CommandConfig
from benchmarks.results.result import Result
from multimodal.bars import Pulse, shown

REFRESH_SECONDS = 0.2
# What the line of a finished run tells of it, as far as it has it.
DONE = {
    "accuracy": "accuracy",
    "macro_auroc": "macro AUROC",
    "zero_shot_top1": "zero-shot",
    "recall_at_10": "R@10",
}


class _Observer:
    """A progress bar of the run in hand on standard error, and lines for what is done.

    Without a terminal (a log file, CI) only the lines are printed, and one of how far the run is
    whenever nothing was for some seconds.
    """

    def __init__(self, console: Console) -> None:
        self.console, self.title = console, ""
        self._next = 0.0
        self._progress = _bar(console)
        self._task = self._progress.add_task("", total=None, note="")
        self._pulse = nullcontext() if console.is_terminal else Pulse(self.say, self._words)

    def __enter__(self) -> Self:
        self._progress.start()
        self._pulse.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._pulse.__exit__(*exception)
        self._progress.stop()

    def say(self, words: str) -> None:
        """A line that stays."""
        self.console.print(words, soft_wrap=True, highlight=False, markup=False)
        shown()

    def _words(self) -> str:
        """How far the run in hand is."""
        task = self._progress.tasks[0]
        note = f"  {task.fields['note']}" if task.fields["note"] else ""
        if task.total is None:
            return f"{self.title or 'runs'}: preparing"
        if task.completed >= task.total:
            return f"{self.title}: all {task.total} steps taken, evaluating"
        return f"{self.title}: step {task.completed:.0f} of {task.total}{note}"

    def begin(self, total_steps: int, done_steps: int) -> None:
        self._progress.reset(
            self._task, total=total_steps, completed=done_steps, description=self.title, note=""
        )
        if done_steps:
            self.say(f"{self.title}: resumed at step {done_steps} of {total_steps}")

    def due(self) -> bool:
        """It is time to draw again."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + REFRESH_SECONDS
        return True


class FitObserver(_Observer):
    """Of alignment and fine-tuning: a line when a run is done."""

    def step(self, fit: Any) -> None:
        """fit: the ``Fit`` that has taken a step."""
        if not self.due():
            return
        note = (
            f"epoch {fit.epoch + 1}  loss {float(fit.loss):.3f}  {fit.throughput:.0f} recordings/s"
            f"  waits for data {fit.data_wait:.0%}"
        )
        self._progress.update(self._task, completed=fit.total_steps, note=note)

    def done(self, result: Result) -> None:
        self.say(fit_line(self.title, result))


class TerminalObserver(_Observer):
    """Of streams: a line for each experience done."""

    def step(self, strategy: Any) -> None:
        """strategy: the ``StreamStrategy`` that has taken a step."""
        if not self.due():
            return
        at, count = strategy.position, len(strategy.rows)
        loss = float(strategy.loss.detach())
        note = f"experience {min(at.experience + 1, count)}/{count}  loss {loss:.3f}"
        self._progress.update(self._task, completed=at.total_steps, note=note)

    def experience_done(self, index: int, count: int, measure: str, scores: list[float]) -> None:
        self.say(experience_line(self.title, index, count, measure, scores))


def checking(console: Console, words: str = "checking config and data") -> Pulse:
    """Around work before the first run: it says now and then that it goes on."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    return Pulse(say, lambda: words)


def fit_line(title: str, result: Result) -> str:
    """Of a run that is done: its scores, and how fast it was."""
    metrics = result.metrics
    shown = [
        f"{name} {100 * metrics[key]:.1f} %"
        for key, name in DONE.items()
        if metrics.get(key) is not None
    ]
    speed = (
        f"{metrics['recordings_per_second']:.0f} recordings/s, waited for data "
        f"{metrics['data_wait_share']:.1%}"
    )
    return f"{title}: {', '.join([*shown, speed])}, {result.seconds:.0f} s"


def experience_line(title: str, index: int, count: int, measure: str, scores: list[float]) -> str:
    """Of an experience that is done: the scores of the test sets."""
    shown = " ".join(f"{100 * score:5.1f}" for score in scores)
    return f"{title}: experience {index + 1}/{count}  test {measure} % {shown}"


def _bar(console: Console) -> Progress:
    return Progress(
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


def print_places(config: CommandConfig, out: Console, *, against: Result | None = None) -> None:
    """Where an experiment's report is, and how to look at it in MLflow.

    against: a run of the row that the others are compared with there.
    """
    from benchmarks.reports.page import write_html
    from benchmarks.results.files import find_results
    from benchmarks.tracking.state import store_uri
    from multimodal import credentials

    # The page shows every run of the experiment, also those of other seeds and settings.
    folder = config.folder.parent
    page = write_html(find_results(folder), folder / "report.html", against=against)
    lines = [f"Report: {page}"]
    if config.tracking.store == "mlflow":
        uri = credentials.shown(store_uri(config.tracking.uri, Path(config.output_dir)))
        lines.append(
            f"MLflow: experiment {config.experiment!r} in {uri}; look with: "
            f"mlflow ui --backend-store-uri {uri}"
        )
    for line in lines:
        out.print(line, markup=False, soft_wrap=True, highlight=False)
