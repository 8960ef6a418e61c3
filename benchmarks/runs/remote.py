"""What a run tells while it goes on in another process: how far it is, and lines for people."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.launchers import Tell
from benchmarks.results.result import Result
from benchmarks.runs.terminal import experience_line, fit_line

SECONDS = 0.5  # between two words on how far it is


class RemoteObserver:
    """Hears what an observer in the terminal hears, of streams and of fits, and tells it.

    Plain data: ``line``, to be shown; ``total`` and ``done``, steps.
    """

    def __init__(self, tell: Tell, title: str) -> None:
        self.tell, self.title = tell, title
        self._next, self._total = 0.0, 0

    def begin(self, total_steps: int, done_steps: int) -> None:
        self._total = total_steps
        self.tell({"total": total_steps, "done": done_steps})
        if done_steps:
            self.tell({"line": f"{self.title}: resumed at step {done_steps} of {total_steps}"})

    def step(self, at: Any) -> None:
        """at: a ``StreamStrategy`` or a ``Fit`` that has taken a step."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SECONDS
            position = getattr(at, "position", at)
            self.tell({"total": self._total, "done": position.total_steps})

    def experience_done(self, index: int, count: int, measure: str, scores: list[float]) -> None:
        self.tell({"line": experience_line(self.title, index, count, measure, scores)})

    def done(self, result: Result) -> None:
        """Of fits."""
        self.tell({"line": fit_line(self.title, result)})
