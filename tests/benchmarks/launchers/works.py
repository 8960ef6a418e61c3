"""Work for launchers that needs nothing of Medley."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.launchers import AGAIN, SPENT


def square(argument: Any, tell: Any) -> dict[str, Any]:
    """The square of n, beside the process and its threads. until: a file to wait for."""
    tell({"half": argument["n"] / 2})
    while "until" in argument and not Path(argument["until"]).exists():
        time.sleep(0.02)
    return {
        "square": argument["n"] ** 2,
        "pid": os.getpid(),
        "threads": os.environ["OMP_NUM_THREADS"],
    }


def die(argument: Any, tell: Any) -> dict[str, Any]:
    """A process that is killed once for each file of ``marks`` that is not there yet."""
    for mark in argument["marks"]:
        if not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid()}


def wait(argument: Any, tell: Any) -> dict[str, Any]:
    """Asks to be called again until a file is there, which its second task makes."""
    if argument["first"] and not Path(argument["mark"]).exists():
        return {AGAIN: 0.1, "reason": "not yet"}
    Path(argument["mark"]).touch()
    return {"pid": os.getpid()}


def spend(argument: Any, tell: Any) -> dict[str, Any]:
    return {"pid": os.getpid(), SPENT: True}


def broken(argument: Any, tell: Any) -> dict[str, Any]:
    if argument["n"] == 1:
        raise RuntimeError("planted")
    print("a line for people")
    return {}


def stubborn(argument: Any, tell: Any) -> dict[str, Any]:
    """Goes on when it is asked to stop, and writes its process down."""
    Path(argument["mark"]).write_text(str(os.getpid()))
    while True:
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:
            if not argument["stubborn"]:
                raise
