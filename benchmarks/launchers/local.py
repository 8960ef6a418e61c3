"""Worker processes on this machine, started once, which take tasks one after the other.

Each has one CPU thread and imports PyTorch and Avalanche once (where processes can be forked from a
server, that has done it for all of them). One that is killed, by the system for want of memory
perhaps, costs its task a try, and another takes its place.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from benchmarks.launchers import AGAIN, LAUNCHERS, SPENT, TRIES, Event, Hear, Task, Work
from benchmarks.launchers.stops import heard_signals
from benchmarks.launchers.worker import END, one_thread, serve
from multimodal.registry import Config, plugged_modules

TICK = 0.2  # seconds between two looks at the clock
PATIENCE = 10.0  # seconds that a worker may take to end
FRUITLESS = 3  # workers in a row that end before they begin


@LAUNCHERS.register("local")
class LocalConfig(Config):
    """Worker processes on this machine."""

    def build(self, *, workers: int, preload: Sequence[str] = (), gpus: int = 0) -> LocalLauncher:
        """preload: modules that every worker needs. gpus: of which each worker gets one."""
        return LocalLauncher(workers=workers, preload=preload, gpus=gpus)


class LocalLauncher:
    """See ``Launcher``."""

    def __init__(self, *, workers: int, preload: Sequence[str] = (), gpus: int = 0) -> None:
        assert workers >= 1
        self.workers, self.preload, self.gpus = workers, tuple(preload), gpus

    def run(self, work: Work, tasks: Sequence[Task], hear: Hear) -> None:
        with heard_signals() as heard, _Pool(self, work, tasks, hear) as pool:
            while pool.open:
                pool.turn()
                hear(None)
                if heard.count > 1:
                    raise KeyboardInterrupt
                if heard.count and not pool.stopping:
                    pool.stop()
        if heard.count:
            raise KeyboardInterrupt

    def environment(self, number: int) -> dict[str, str]:
        """Variables of worker ``number``."""
        if not self.gpus:
            return {}
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        known = named.split(",") if named else [str(i) for i in range(self.gpus)]
        return {"CUDA_VISIBLE_DEVICES": known[number % len(known)]}


class _Waiting(NamedTuple):
    """A task to be begun, not before a moment of ``time.monotonic()``. tries: so far."""

    task: Task
    tries: int = 0
    since: float = 0.0


class _Worker:
    """A process, this side of its pipe, and what it is at."""

    def __init__(self, process: BaseProcess, pipe: Connection, name: str) -> None:
        self.process, self.pipe, self.name = process, pipe, name
        self.ready, self.ending = False, False
        self.at: _Waiting | None = None

    def send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it is dead, which its pipe tells in its turn
            self.pipe.send_bytes(json.dumps(message).encode())


class _Pool:
    """The workers of one run, and what waits for them."""

    def __init__(
        self, launcher: LocalLauncher, work: Work, tasks: Sequence[Task], hear: Hear
    ) -> None:
        self.launcher, self.work, self.hear = launcher, work, hear
        self.waiting = deque(_Waiting(task) for task in tasks)
        self.workers: list[_Worker] = []
        self.stopping = False
        self._started = self._fruitless = 0
        self._context = _context(launcher.preload)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the workers, at once if something was raised."""
        for worker in self.workers:
            worker.send(END)
        deadline = time.monotonic() + (0.0 if exception[0] else PATIENCE)
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    @property
    def open(self) -> bool:
        """Something is still to be done."""
        return bool(self.waiting) or any(w.at is not None for w in self.workers)

    def turn(self) -> None:
        """Start workers, hand tasks out, hear what comes back; as long as a ``TICK`` at most."""
        busy = [w for w in self.workers if w.at is not None]
        count = min(self.launcher.workers, len(busy) + len(self.waiting))
        while len([w for w in self.workers if not w.ending]) < count and not self.stopping:
            self.workers.append(self._start())
        for worker in self.workers:
            if worker.ready and not worker.ending and worker.at is None:
                self._hand_out(worker)
        pipes = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(list(pipes), timeout=TICK):
            assert isinstance(pipe, Connection)
            self._receive(pipes[pipe])

    def stop(self) -> None:
        """Ask every worker to stop; nothing new is begun."""
        self.stopping = True
        self.waiting.clear()
        for worker in self.workers:
            if worker.at is not None:
                worker.process.terminate()
            elif not worker.ready:
                worker.process.kill()

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        environment = self.launcher.environment(self._started)
        args = (self.work, there, environment, ",".join(plugged_modules()))
        with _environment(one_thread(os.environ)):
            process = self._context.Process(target=serve, args=args)
            process.start()
        there.close()  # so that its end is heard
        self._started += 1
        return _Worker(process, here, f"worker {self._started}")

    def _hand_out(self, worker: _Worker) -> None:
        now = time.monotonic()
        for place, waiting in enumerate(self.waiting):
            if waiting.since <= now:
                del self.waiting[place]
                worker.at = waiting._replace(tries=waiting.tries + 1)
                worker.send({"key": waiting.task.key, "argument": dict(waiting.task.argument)})
                data = {"pid": worker.process.pid}
                self.hear(Event("begun", waiting.task.key, worker.name, data))
                return

    def _receive(self, worker: _Worker) -> None:
        try:
            message = json.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            self._bury(worker)
            return
        if message["kind"] == "ready":
            worker.ready, self._fruitless = True, 0
            return
        key, data, at = message["key"], message.get("data", {}), worker.at
        if message["kind"] in ("told", "said"):
            self.hear(Event(message["kind"], key, worker.name, data))
            return
        assert at is not None
        assert at.task.key == key
        worker.at = None
        if message["kind"] == "stopped":
            worker.ending = True
            self.hear(Event("stopped", key, worker.name))
        elif message["kind"] == "broken":
            self.hear(Event("died", key, worker.name, {**data, "tried_again": False}))
        elif AGAIN in data and not self.stopping:
            since = time.monotonic() + data[AGAIN]
            self.waiting.append(_Waiting(at.task, at.tries - 1, since))
            self.hear(Event("waits", key, worker.name, data))
        else:
            self.hear(Event("done", key, worker.name, data))
        if data.get(SPENT):
            worker.ending = True
            worker.send(END)

    def _bury(self, worker: _Worker) -> None:
        """Of a worker that has ended, as it was told to or not."""
        worker.process.join(PATIENCE)
        code, at = worker.process.exitcode, worker.at
        self.workers.remove(worker)
        worker.pipe.close()
        if not worker.ready and not self.stopping:
            self._fruitless += 1
            if self._fruitless >= FRUITLESS:
                raise RuntimeError(f"workers end before they begin ({_words(code)})")
        if at is None:
            return
        if self.stopping:
            self.hear(Event("stopped", at.task.key, worker.name))
            return
        again = at.tries < TRIES
        if again:
            self.waiting.append(at)
        data = {"reason": _words(code), "tried_again": again}
        self.hear(Event("died", at.task.key, worker.name, data))


def _words(code: int | None) -> str:
    if code is None:
        return "its process does not answer"
    if code < 0:
        more = " (SIGKILL: perhaps the system was out of memory)" if code == -9 else ""
        return f"killed by signal {-code}{more}"
    return f"its process ended with exit code {code}"


def _context(preload: Sequence[str]) -> Any:
    """Processes that begin anew: forked from a server that has imported ``preload``, or spawned."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


@contextlib.contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """What processes that are started inside find in their environment."""
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            del os.environ[name]
