"""A progress bar for work that turns out to be long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

SECONDS = 1.0


@contextmanager
def bar(description: str, total: int, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Yields what to call after each of ``total`` steps.

    The bar appears on standard error, if that is a terminal, after SECONDS of work.
    """
    from rich.console import Console
    from rich.progress import Progress

    console, begin = Console(stderr=True), monotonic()
    progress = Progress(
        console=console, transient=True, disable=not (shown and console.is_terminal)
    )
    task = progress.add_task(description, total=total)

    def advance() -> None:
        if monotonic() - begin > SECONDS:
            progress.start()
        progress.advance(task)

    try:
        yield advance
    finally:
        progress.stop()
