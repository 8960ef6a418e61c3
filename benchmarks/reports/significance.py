"""Whether the seeds tell rows apart: paired tests against the best, Friedman's test, Nemenyi's
critical difference, and its diagram.

Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006): blocks are
his data sets. Here they are the seeds of one stream, so all of it speaks of other seeds of the same
stream, and never of other data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.reports.numbers import Interval, interval
from benchmarks.reports.ranking import Ranked
from benchmarks.results.metric_names import LOWER

LEVEL = 0.05
FEWEST_SEEDS, FEWEST_ROWS = 3, 3
EQUAL = 1e-12  # differences that differ by less are the same


@dataclass(frozen=True)
class Paired:
    """apart: interval of the differences, first − second. p: of the paired t test, None where all
    differences are equal or there are fewer than two.
    """

    first: str
    second: str
    apart: Interval
    p: float | None


@dataclass(frozen=True)
class Ranks:
    """names, mean: of the rows, by mean rank over seeds, 1 is best, the best first. chi2, p: of
    Friedman's test. critical: Nemenyi's difference. cliques: (first, last) places of rows that are
    not told apart, the longest ones only.
    """

    names: list[str]
    mean: list[float]
    seeds: int
    chi2: float
    p: float
    critical: float
    cliques: list[tuple[int, int]]


def paired(table: Ranked, first: str, second: str) -> Paired | None:
    """Of two rows, over the seeds that both have; None: they share fewer than two."""
    own, other = (_by_seed(table, name) for name in (first, second))
    shared = sorted(own.keys() & other.keys())
    apart = [own[seed] - other[seed] for seed in shared]
    found = interval(apart) if len(apart) > 1 else None
    return None if found is None else Paired(first, second, found, t_test(apart))


def _by_seed(table: Ranked, name: str) -> dict[int, float]:
    values = {run.seed: run.metrics.get(table.key) for run in table.runs[name]}
    return {s: float(v) for s, v in values.items() if v is not None and math.isfinite(v)}


def t_test(apart: Sequence[float]) -> float | None:
    """p of the paired t test, two-sided; None where all differences are equal."""
    from scipy.stats import ttest_1samp

    if np.ptp(apart) < EQUAL:
        return None
    return float(ttest_1samp(apart, 0.0).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def against_best(table: Ranked) -> list[tuple[Paired, float | None]]:
    """The best competitor against every other, with Holm's correction of p over all of them."""
    rows = [row.learner for row in table.competitors]
    found = [p for name in rows[1:] if (p := paired(table, rows[0], name)) is not None]
    adjusted = holm([each.p for each in found])
    return list(zip(found, adjusted, strict=True))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of p values; None stays, and counts for nothing."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for place, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        adjusted[i] = highest
    return adjusted


def ranks(table: Ranked) -> Ranks | None:
    """Of the competitors, over the seeds that all of them have; None: too few rows or seeds."""
    from scipy.stats import chi2 as chi2_law
    from scipy.stats import rankdata

    own = {row.learner: _by_seed(table, row.learner) for row in table.competitors}
    seeds = sorted(set.intersection(*(set(v) for v in own.values()))) if own else []
    if len(own) < FEWEST_ROWS or len(seeds) < FEWEST_SEEDS:
        return None
    values = np.array([[each[seed] for each in own.values()] for seed in seeds])
    order = rankdata(values if table.key in LOWER else -values, axis=1)
    mean, (blocks, rows) = order.mean(axis=0), order.shape
    chi2 = _friedman(order)
    critical = nemenyi(rows, blocks)
    by_rank = np.argsort(mean, kind="stable")
    sorted_mean = mean[by_rank].tolist()
    names = list(own)
    return Ranks(
        [names[i] for i in by_rank],
        sorted_mean,
        blocks,
        chi2,
        float(chi2_law.sf(chi2, rows - 1)),
        critical,
        cliques(sorted_mean, critical),
    )


def _friedman(order: np.ndarray) -> float:
    """chi² of (N, k) ranks with midranks for ties: (k − 1) Σ_j (R_j − N (k + 1) / 2)² over the
    variance of all ranks; 0 where every block is one tie.
    """
    blocks, rows = order.shape
    centre = (rows + 1) / 2
    spread = ((order - centre) ** 2).sum()
    if spread == 0:
        return 0.0
    sums = order.sum(axis=0) - blocks * centre
    return float((rows - 1) * (sums**2).sum() / spread)


def nemenyi(rows: int, blocks: int, level: float = LEVEL) -> float:
    """Critical difference of mean ranks: q √(k (k + 1) / (6 N)), q of the studentised range of k
    groups and infinitely many degrees of freedom, over √2 (Demšar 2006, section 3.2.2).
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - level, rows, np.inf)) / math.sqrt(2)
    return q * math.sqrt(rows * (rows + 1) / (6 * blocks))


def cliques(mean: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """(first, last) of ascending mean ranks that lie within ``critical``, two or more, the longest
    ones only.
    """
    found: list[tuple[int, int]] = []
    for first in range(len(mean)):
        last = max(i for i in range(len(mean)) if mean[i] - mean[first] < critical)
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found
