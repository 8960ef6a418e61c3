"""Where the cells of a grid run: in processes of this machine, on a Ray cluster, by Slurm.

A launcher runs tasks and tells what becomes of them; it knows nothing of what they do. Everything
that goes to a task and comes back is plain data. A registered launcher config's
``build(workers=, preload=, gpus=)`` gives a Launcher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from multimodal.registry import Registry

LAUNCHERS = Registry("launcher", "benchmarks.launchers")
TRIES = 2  # of a task whose process dies
AGAIN, SPENT = "again_in", "spent"

Plain = Mapping[str, Any]
Tell = Callable[[Plain], None]
# argument, tell -> outcome. It raises nothing but KeyboardInterrupt, at SIGTERM. An outcome with
# the key ``AGAIN`` asks to be called again after so many seconds; with ``SPENT``, to let no more
# tasks into this process.
Work = Callable[[Plain, Tell], Plain]


class Task(NamedTuple):
    """key: one of its own."""

    key: str
    argument: Plain


@dataclass(frozen=True)
class Event:
    """What became of a task.

    kind: "begun" (data: ``pid``, of a process of this machine); "told", what the work tells
    meanwhile; "done", with its outcome; "waits", it asks to be called again; "died", its process
    did (data: ``reason``, and whether it is ``tried_again`` by another one); "stopped", before its
    end, as was asked; "said", a ``line`` that the process wrote for people, of no task in
    particular. worker: which process, for people.
    """

    kind: Literal["begun", "told", "done", "waits", "died", "stopped", "said"]
    key: str
    worker: str = ""
    data: Plain = field(default_factory=dict)


Hear = Callable[[Event | None], None]


class Launcher(Protocol):
    """run: every task to its end, whatever becomes of the others; ``hear`` is called with each
    event, and with None some times a second.

    Ctrl-C and SIGTERM ask all tasks to stop, which they do where they can go on later; a second one
    ends them at once. Both raise KeyboardInterrupt at the end.
    """

    def run(self, work: Work, tasks: Sequence[Task], hear: Hear) -> None: ...
