"""What a quick run meets of a stream, and how often it is evaluated on the way."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.commands.bench.config import RunConfig
from benchmarks.runs.inputs import Inputs
from continual.scenarios import Stream

EXPERIENCES = 2
POINTS = 5  # evaluations of an online stream; a run that is not quick has about 50


def shorten(stream: Stream, *, period: int | None = None) -> Stream:
    """The first experiences only, and of an online stream some POINTS evaluations.

    period: recordings between two evaluations, if the config asks for that; then that stays.
    """
    online, experiences = stream.online, stream.experiences[:EXPERIENCES]
    if online is not None and period is None:
        length = sum(len(e.train) for e in experiences)
        online = replace(online, eval_period=max(online.eval_period, -(-length // POINTS)))
    parts = stream.parts[:EXPERIENCES]
    return replace(stream, experiences=experiences, parts=parts, online=online)


def evaluated(config: RunConfig, stream: Stream) -> Inputs:
    """How often a quick run of an online stream is evaluated, as an input of it: a run that was
    evaluated at other times is refused, not taken for this one.
    """
    if not config.quick or stream.online is None:
        return {}
    return {"quick.eval_period": str(stream.online.eval_period)}
