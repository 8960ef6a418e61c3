"""What launchers share whose tasks run in processes that others start: Ray's, Slurm's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.launchers import AGAIN, TRIES, Event, Hear, Plain, Task, Tell, Work
from benchmarks.launchers.stops import heard_signals

TICK = 0.2  # seconds between two looks


class Lost(Exception):
    """The process of a task is gone; the reason, in words. tried: it was tried again already."""

    def __init__(self, reason: str, *, tried: bool = False) -> None:
        super().__init__(reason)
        self.tried = tried


class Stopped(Exception):
    """A task has stopped before its end, as was asked."""


class Cluster:
    """Somebody's processes. A subclass says how a task is begun, looked at and ended."""

    def submit(self, task: Task) -> Any:
        """Begin a task; gives what the other calls are about."""
        raise NotImplementedError

    def outcome(self, job: Any) -> Plain | None:
        """Of a task that has ended, None while it has not; raises Lost or Stopped."""
        raise NotImplementedError

    def told(self) -> Sequence[tuple[str, Plain]]:
        """What tasks have told since the last call, each with its key."""
        return []

    def stop(self, job: Any, *, now: bool) -> None:
        """Ask a task to stop, or end it."""
        raise NotImplementedError


class _Waiting(NamedTuple):
    task: Task
    tries: int = 0
    since: float = 0.0


def run_away(cluster: Cluster, tasks: Sequence[Task], hear: Hear, *, at_once: int) -> None:
    """As ``Launcher.run``, ``at_once`` tasks at a time at most."""
    waiting, at = deque(_Waiting(task) for task in tasks), dict[str, tuple[Any, _Waiting]]()
    asked = 0  # to stop, so many times
    with heard_signals() as heard:
        while waiting or at:
            _begin(cluster, waiting, at, hear, at_once)
            time.sleep(TICK)
            ends = {key: _look(cluster, job, one) for key, (job, one) in at.items()}
            for key, told in cluster.told():
                hear(Event("told", key, "", told))
            for key, event in ends.items():
                if event is None:
                    continue
                _, one = at.pop(key)
                if event.kind == "waits" and not asked:
                    since = time.monotonic() + event.data[AGAIN]
                    waiting.append(one._replace(since=since))
                elif event.kind == "died" and event.data["tried_again"] and not asked:
                    waiting.append(one._replace(tries=one.tries + 1))
                hear(event)
            hear(None)
            if heard.count > asked:
                asked = heard.count
                waiting.clear()
                for job, _ in at.values():
                    cluster.stop(job, now=asked > 1)
                if asked > 1:
                    break
        if heard.count:
            raise KeyboardInterrupt


def _begin(
    cluster: Cluster,
    waiting: deque[_Waiting],
    at: dict[str, tuple[Any, _Waiting]],
    hear: Hear,
    at_once: int,
) -> None:
    now = time.monotonic()
    for one in [w for w in waiting if w.since <= now][: max(0, at_once - len(at))]:
        waiting.remove(one)
        at[one.task.key] = (cluster.submit(one.task), one)
        hear(Event("begun", one.task.key))


def _look(cluster: Cluster, job: Any, one: _Waiting) -> Event | None:
    key = one.task.key
    try:
        outcome = cluster.outcome(job)
    except Stopped:
        return Event("stopped", key)
    except Lost as lost:
        again = not lost.tried and one.tries + 1 < TRIES
        return Event("died", key, "", {"reason": str(lost), "tried_again": again})
    if outcome is None:
        return None
    return Event("waits" if AGAIN in outcome else "done", key, "", outcome)


def perform(work: Work, plugins: str, argument: Plain, tell: Tell) -> dict[str, Any]:
    """A task in its own process. ``stopped`` stands beside nothing else."""
    from benchmarks.launchers.worker import import_plugins

    import_plugins(plugins)
    try:
        return dict(work(argument, tell))
    except KeyboardInterrupt:
        return {"stopped": True}


def whole(found: Plain) -> Plain:
    """What ``perform`` gave; raises Stopped."""
    if "stopped" in found:
        raise Stopped
    return found
