"""Paired differences: how far rows are from one of them, over the seeds that both have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.reports.numbers import Interval, interval, interval_text
from benchmarks.reports.significance import LEVEL, holm, t_test
from benchmarks.reports.tables import by_learner
from benchmarks.results.metric_names import COUNTS, FACTS, MAIN_METRICS
from benchmarks.results.result import Result

COMPARED = ("align", "zeroshot")  # commands whose tables show differences without being asked
FEWEST = 2  # seeds
CAPTION = (
    "percentage points, row − {}: mean over shared seeds ± half width of the 95 % t interval of "
    "the paired differences"
)
MARKED = f"; * p < {LEVEL:g} of the paired t test, Holm's correction over the rows of a column"


@dataclass(frozen=True)
class Difference:
    """seeds: that the row shares with the reference. left_out: that only one of them has. values:
    an interval of the differences for each metric (fractions); None for fewer than two. p: of the
    paired t test, where there is one. told_apart: metrics of which it is below ``LEVEL`` after
    Holm's correction over all rows.
    """

    row: str
    seeds: int
    left_out: int
    values: dict[str, Interval | None]
    p: dict[str, float | None]
    told_apart: frozenset[str] = field(default_factory=frozenset)

    @property
    def seeds_text(self) -> str:
        return f"{self.seeds}" + (f"\n({self.left_out} left out)" if self.left_out else "")

    def text(self, key: str) -> str:
        value = self.values[key]
        text = interval_text(value, self.seeds)
        plus = "+" if value is not None and round(100 * value.mean, 1) > 0 else ""
        return f"{plus}{text}{'*' if key in self.told_apart else ''}"


@dataclass(frozen=True)
class Differences:
    """Of the rows of a table to its row ``reference``. keys: metrics that some row has."""

    reference: str
    keys: list[str]
    rows: list[Difference]

    @property
    def caption(self) -> str:
        marked = MARKED if any(row.told_apart for row in self.rows) else ""
        return CAPTION.format(self.reference) + marked


def differences(
    results: Sequence[Result], against: str | Result | None = None
) -> Differences | None:
    """Of comparable results. None: nothing is to be compared, or nothing has two shared seeds.

    against: the label of the reference, or one of its runs; None: the first row of the commands
    that show differences by themselves.
    """
    rows = by_learner(results)
    reference = _reference(rows, against)
    if reference is None:
        return None
    keys = [key for key in MAIN_METRICS if key not in (*FACTS, *COUNTS)]
    found = [_difference(row, runs, rows[reference], keys) for row, runs in rows.items()]
    found = [each for each in found if each.row != reference]
    keys = [key for key in keys if any(each.values[key] is not None for each in found)]
    return Differences(reference, keys, _corrected(found, keys)) if keys else None


def _corrected(rows: list[Difference], keys: Sequence[str]) -> list[Difference]:
    """The same, with what is told apart."""
    adjusted = {key: holm([row.p[key] for row in rows]) for key in keys}
    apart = {key: [p is not None and p < LEVEL for p in found] for key, found in adjusted.items()}
    return [
        replace(row, told_apart=frozenset(key for key in keys if apart[key][i]))
        for i, row in enumerate(rows)
    ]


def _reference(rows: dict[str, list[Result]], against: str | Result | None) -> str | None:
    if isinstance(against, str):
        return against if against in rows else None
    if against is not None:
        # By its folder's name: what is read back from a file has lists in place of tuples.
        labels = [row for row, runs in rows.items() if any(_same_run(against, run) for run in runs)]
        return labels[0] if labels else None
    label, runs = next(iter(rows.items()))
    return label if runs[0].command in COMPARED else None


def _same_run(one: Result, other: Result) -> bool:
    return (one.experiment, one.config_hash) == (other.experiment, other.config_hash)


def _difference(
    row: str, runs: list[Result], reference: list[Result], keys: list[str]
) -> Difference:
    own, other = ({run.seed: run.metrics for run in each} for each in (runs, reference))
    shared = sorted(own.keys() & other.keys())
    values, chances = {}, {}
    for key in keys:
        pairs = [(own[seed].get(key), other[seed].get(key)) for seed in shared]
        apart = [a - b for a, b in pairs if a is not None and b is not None]
        apart = [value for value in apart if math.isfinite(value)]
        enough = len(apart) >= FEWEST
        values[key] = interval(apart) if enough else None
        chances[key] = t_test(apart) if enough else None
    return Difference(row, len(shared), len(own.keys() ^ other.keys()), values, chances)
