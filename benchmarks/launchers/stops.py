"""Ctrl-C and SIGTERM, heard by a launcher: the first asks tasks to stop, the second ends them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Heard:
    """count: of signals so far."""

    count = 0


@contextlib.contextmanager
def heard_signals() -> Iterator[Heard]:
    """They are counted, and raise nothing meanwhile; the main thread alone gets them."""
    heard = Heard()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, frame: Any) -> None:
        heard.count += 1

    for number in before:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
