"""Which metric a table is about, in which order its rows stand by it, and which values are best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reports.tables import Row, by_learner, columns, summarise
from benchmarks.results.metric_names import FACTS, HEADLINES, LOWER, METRICS
from benchmarks.results.result import Result
from continual.learner import LEARNERS
from multimodal.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Ranked:
    """The rows of comparable results, best first by the metric ``key``, those without it last.

    bounds: rows of joint training, which meets everything at once: no competitors, upper bounds.
    """

    key: str
    rows: list[Row]
    runs: dict[str, list[Result]]
    bounds: frozenset[str]

    @property
    def competitors(self) -> list[Row]:
        """Rows with a value that are no bounds, best first."""
        return [r for r in self.rows if r.values.get(self.key) and r.learner not in self.bounds]

    def best(self, key: str) -> set[str]:
        """The rows whose mean is best in a column; bounds are left out. Facts of the data: none."""
        found = {
            row.learner: value.mean
            for row in self.rows
            if (value := row.values.get(key)) is not None and row.learner not in self.bounds
        }
        if len(found) < 2 or key in FACTS:
            return set()
        top = (min if key in LOWER else max)(found.values())
        return {name for name, mean in found.items() if mean == top}


def ranked(results: Sequence[Result], by: str | None = None) -> Ranked:
    """Of comparable results. by: a metric's key; None: what such a table is about.

    UserError: the results have no such metric.
    """
    rows, runs = summarise(results), by_learner(results)
    key = sort_key(rows, by)
    have = [row for row in rows if row.values.get(key) is not None]
    have.sort(key=lambda row: _mean(row, key), reverse=key not in LOWER)
    lack = [row for row in rows if row.values.get(key) is None]
    bounds = frozenset(name for name, own in runs.items() if _at_once(own[0]))
    return Ranked(key, [*have, *lack], runs, bounds)


def sort_key(rows: Sequence[Row], by: str | None = None) -> str:
    """A metric that some row has; UserError if there is no such one."""
    known = columns(rows)
    valued = [key for key in known if any(row.values.get(key) is not None for row in rows)]
    if by is None:
        return next((k for k in (*HEADLINES, *valued) if k in valued), HEADLINES[0])
    names = {**{METRICS[key]: key for key in valued}, **{key: key for key in valued}}
    if by not in names:
        raise UserError(f"--sort: no metric {by!r} here{did_you_mean(by, valued)}")
    return names[by]


def _mean(row: Row, key: str) -> float:
    value = row.values[key]
    assert value is not None
    return value.mean


def _at_once(run: Result) -> bool:
    """Of joint training; a learner that is gone is none."""
    try:
        return getattr(LEARNERS.config(run.learner), "kind", None) == "joint"
    except UserError:
        return False
