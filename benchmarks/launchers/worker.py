"""A process that takes tasks one after the other, and stops at once when its parent is gone.

Messages are JSON in both directions. Two threads stand beside the work: one reads, so that the end
of the parent is noticed in the middle of a task; one writes, so that a stop signal cannot cut a
message in two.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.launchers import Work

END = {"end": True}


class Stop:
    """SIGTERM, from the parent: KeyboardInterrupt in the midst of a task, else after it.

    Ctrl-C is the parent's to hear, which then sends one SIGTERM.
    """

    def __init__(self) -> None:
        self.asked = self.working = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, number: int, frame: Any) -> None:
        self.asked = True
        if self.working:
            self.working = False
            raise KeyboardInterrupt


def serve(work: Work, pipe: Connection, environment: Mapping[str, str], plugins: str) -> None:
    """The whole life of a worker. environment: variables to set before anything is imported.

    plugins: modules that the parent knows registered things of, see ``multimodal.registry``.
    """
    os.environ.update(environment)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # a terminal's Ctrl-C goes to the parent alone
    stop = Stop()
    tasks, answers = queue.SimpleQueue[Any](), queue.SimpleQueue[Any]()
    writer = threading.Thread(target=_write, args=(pipe, answers), daemon=True)
    writer.start()
    threading.Thread(target=_read, args=(pipe, tasks), daemon=True).start()
    sys.stdout = sys.stderr = _Said(answers)
    import_plugins(plugins)
    answers.put({"kind": "ready"})
    while not stop.asked and (task := _next(tasks, stop)) is not None:
        answers.put(_done(work, task, answers, stop))
    answers.put(None)
    writer.join()


class _Said(io.TextIOBase):
    """What is printed goes to the parent, a line at a time: the terminal shows its table."""

    def __init__(self, answers: Any) -> None:
        self._answers, self._rest = answers, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = f"{self._rest}{text}".split("\n")
        for line in filter(str.strip, lines):
            self._answers.put({"kind": "said", "key": "", "data": {"line": line}})
        return len(text)


def _done(work: Work, task: Mapping[str, Any], answers: Any, stop: Stop) -> dict[str, Any]:
    key = task["key"]
    try:
        stop.working = True
        outcome = work(
            task["argument"], lambda told: answers.put({"kind": "told", "key": key, "data": told})
        )
        stop.working = False
        return {"kind": "done", "key": key, "data": dict(outcome)}
    except KeyboardInterrupt:
        stop.asked, stop.working = True, False
        return {"kind": "stopped", "key": key}
    except BaseException as error:  # the work tells of what its task raises; this is its own fault
        stop.working = False
        data = {"reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        return {"kind": "broken", "key": key, "data": data}


def _next(tasks: Any, stop: Stop) -> Mapping[str, Any] | None:
    while not stop.asked:
        try:
            task = tasks.get(timeout=0.2)
        except queue.Empty:
            continue
        return None if task == END else task
    return None


def _read(pipe: Connection, tasks: Any) -> None:
    while True:
        try:
            message = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            # The parent is gone: what is running goes on from its last checkpoint another time.
            os._exit(1)
        tasks.put(message)
        if message == END:
            return


def _write(pipe: Connection, answers: Any) -> None:
    while (message := answers.get()) is not None:
        try:
            pipe.send_bytes(json.dumps(message).encode())
        except OSError:
            os._exit(1)


def import_plugins(plugins: str) -> None:
    """Things that were registered in the parent by importing a module are known here, too."""
    from multimodal.registry import PLUGIN_VARIABLE, load_plugins

    known = os.environ.get(PLUGIN_VARIABLE, "")
    there = [name for name in plugins.split(",") if name and _is_found(name)]
    os.environ[PLUGIN_VARIABLE] = ",".join(filter(None, [known, *there]))
    load_plugins()


def _is_found(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def one_thread(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that give a process one thread, unless the user said something else."""
    names: Sequence[str] = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: "1" for name in names if name not in environment}
