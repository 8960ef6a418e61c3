"""One cell of a grid, in the process that it is given to: a run of bench, align or finetune."""

from __future__ import annotations

from benchmarks.commands.bench import one as bench
from benchmarks.launchers import Plain, Tell
from benchmarks.runs.attempts import attempt, config_of
from benchmarks.runs.remote import RemoteObserver

PRELOAD = ("benchmarks.commands.grid.work",)


def work(argument: Plain, tell: Tell) -> Plain:
    """A task of a launcher."""
    command, observer = argument["command"], RemoteObserver(tell, argument["title"])
    if command == "bench":
        return bench.work(argument, tell)
    if command == "align":
        from benchmarks.commands.align import command as align
        from benchmarks.commands.align.config import AlignConfig

        config = config_of(argument, AlignConfig)
        return attempt(config, lambda: align.run_one(config, observer))
    from benchmarks.commands.finetune import command as finetune
    from benchmarks.commands.finetune.config import FinetuneConfig

    assert command == "finetune", command
    tuned = config_of(argument, FinetuneConfig)
    return attempt(tuned, lambda: finetune.run_one(tuned, observer))
