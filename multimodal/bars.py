"""A progress bar for work that turns out to be long, and a word now and then where none is seen."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Self

SECONDS = 1.0  # before a bar appears
QUIET = 10.0  # without anything to see, before a line says what goes on


class Pulse:
    """While it is open, ``say`` hears ``words()`` after QUIET seconds in which nothing was shown.

    Call ``shown`` when something was. words: may be called at any time, from another thread.
    """

    def __init__(self, say: Callable[[str], object], words: Callable[[], str]) -> None:
        self._say, self._words = say, words
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._since = monotonic()
        shown()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        assert self._thread is not None
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(max(0.01, QUIET / 20)):
            if monotonic() - _LAST[0] > QUIET:
                shown()
                self._say(f"{self._words()} ({monotonic() - self._since:.0f} s)")


_LAST = [0.0]  # when something was shown last


def shown() -> None:
    """The user has just seen something."""
    _LAST[0] = monotonic()


@contextmanager
def bar(description: str, total: int, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Yields what to call after each of ``total`` steps.

    On standard error: if that is a terminal a bar, after SECONDS of work; else a line every QUIET
    seconds.
    """
    from rich.console import Console
    from rich.progress import Progress

    console, begin, done = Console(stderr=True), monotonic(), 0
    progress = Progress(
        console=console, transient=True, disable=not (shown and console.is_terminal)
    )
    task = progress.add_task(description, total=total)

    def advance() -> None:
        nonlocal done
        done += 1
        now = monotonic()
        if now - begin > SECONDS:
            progress.start()
        progress.advance(task)
        if console.is_terminal:
            _LAST[0] = now
        elif shown and now - max(begin, _LAST[0]) > QUIET and done < total:
            _LAST[0] = now
            print(f"{description}: {done:,} of {total:,} ({now - begin:.0f} s)", file=sys.stderr)

    try:
        yield advance
    finally:
        progress.stop()
