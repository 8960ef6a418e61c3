"""What a run is at, by what its folder holds."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results.failures import UNFIT, Failure
from benchmarks.results.result import RESULT_FILE
from benchmarks.runs.workspace import LOCK, run_lock
from multimodal.locks import Held

CONFIG_FILE = "config.yaml"
DONE, RUNNING, FAILED, STOPPED, NEW = "done", "running", "failed", "stopped", "new"
STATES = (DONE, RUNNING, STOPPED, FAILED, UNFIT, NEW)


def state_of(folder: Path) -> str:
    """One of ``STATES``; nothing is opened but the reason of a failure.

    done: it has a result. running: a process holds it. failed, not applicable: how its last attempt
    ended. stopped: it was begun, and the same command goes on with it. new: nothing is there.
    """
    if (folder / RESULT_FILE).is_file():
        return DONE
    if _is_held(folder):
        return RUNNING
    failure = Failure.load(folder)
    if failure is not None:
        return failure.state
    return STOPPED if (folder / CONFIG_FILE).is_file() else NEW


def _is_held(folder: Path) -> bool:
    if not (folder / LOCK).is_file():
        return False
    try:
        with run_lock(folder, patience=0.0):
            return False
    except Held:
        return True
