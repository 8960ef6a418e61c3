"""Every learner in every stream of an experiment: what a grid comes to, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from rich.table import Table

from benchmarks.reports.charts import escape, head, scroll
from benchmarks.reports.numbers import interval_text
from benchmarks.reports.ranking import Ranked, ranked
from benchmarks.reports.stacked import Column, stacked
from benchmarks.reports.tables import comparable, short_title
from benchmarks.results.metric_names import LOWER, METRICS
from benchmarks.results.result import Result

CAPTION = (
    "Of each stream the metric that its table is sorted by, mean over seeds, and below it the rank "
    "among those that compete (joint training does not; rank 1 is best, equal values share theirs);"
    " first column: mean rank, over the streams in which a learner has a value"
)


class Cell(NamedTuple):
    """text: the value. rank: None of upper bounds."""

    text: str
    rank: float | None
    best: bool


class Stream(NamedTuple):
    """name, of data and stream. cells: by learner. anchor: of its section in the page."""

    name: str
    metric: str
    cells: dict[str, Cell]
    anchor: str


class Overview(NamedTuple):
    """learners: those of best mean rank first, upper bounds last. quick: of short runs."""

    streams: list[Stream]
    learners: list[str]
    quick: bool

    def mean_rank(self, learner: str) -> float | None:
        """Over the streams in which it has one."""
        found = [s.cells[learner].rank for s in self.streams if learner in s.cells]
        ranks = [rank for rank in found if rank is not None]
        return fmean(ranks) if ranks else None


def overviews(results: Sequence[Result]) -> list[Overview]:
    """Of full runs, and of quick ones; only where two streams share two learners or more."""
    found = []
    for quick in (False, True):
        streams = []
        for number, group in enumerate(comparable(results)):
            table = ranked(group)
            if group[0].quick == quick and table.rows:
                streams.append(_stream(group[0], table, anchor(number)))
        learners = list(dict.fromkeys(name for s in streams for name in s.cells))
        shared = [name for name in learners if sum(name in s.cells for s in streams) > 1]
        if len(shared) > 1:
            made = Overview(streams, learners, quick)
            found.append(made._replace(learners=sorted(learners, key=lambda x: _order(made, x))))
    return found


def anchor(number: int) -> str:
    """Of the section of a comparable group, in their order."""
    return f"stream-{number + 1}"


def _order(made: Overview, learner: str) -> tuple[bool, float]:
    rank = made.mean_rank(learner)
    return rank is None, rank or 0.0


def _stream(first: Result, table: Ranked, place: str) -> Stream:
    means = {r.learner: v.mean for r in table.competitors if (v := r.values.get(table.key))}
    best, cells = table.best(table.key), {}
    for row in table.rows:
        value = row.values.get(table.key)
        if value is None:
            continue
        text = interval_text(value._replace(half_width=None), value.seeds, key=table.key)
        rank = _rank(means, row.learner, table.key) if row.learner in means else None
        cells[row.learner] = Cell(text, rank, row.learner in best)
    words = f"{short_title(first).removesuffix(', quick')} {first.scenario}"
    return Stream(words, METRICS[table.key], cells, place)


def _rank(means: dict[str, float], learner: str, key: str) -> float:
    """1 + those that are better + half of those that are equal."""
    own = means[learner]
    better = sum(m < own if key in LOWER else m > own for m in means.values())
    return better + (sum(m == own for m in means.values()) + 1) / 2


def _rank_text(rank: float | None) -> str:
    return "–" if rank is None else f"{rank:.1f}"


def overview_html(found: Sequence[Overview]) -> str:
    """Sections for the top of a page, whose heads lead to those of the streams."""
    sections = []
    for made in found:
        heads = head("learner") + head("mean rank")
        for stream in made.streams:
            words = f"{stream.name}: {stream.metric}"
            link = f'<a href="#{stream.anchor}">{escape(words).replace("_", "_<wbr>")}</a>'
            heads += f'<th scope="col"><span>{link}</span></th>'
        rows = "".join(_row_html(made, learner) for learner in made.learners)
        html = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        title = "All streams" + ", quick" * made.quick
        words = f'<p class="soft">{escape(CAPTION)}.</p>'
        card = f'<div class="card">{words}{scroll(html, title)}</div>'
        sections.append(f"<section><h2>{title}</h2>{card}</section>\n")
    return "".join(sections)


def _row_html(made: Overview, learner: str) -> str:
    cells = f"<td>{_rank_text(made.mean_rank(learner))}</td>"
    for stream in made.streams:
        cell = stream.cells.get(learner)
        if cell is None:
            cells += "<td>–</td>"
            continue
        mark = ' class="best"' if cell.best else ""
        rank = "–" if cell.rank is None else f"{cell.rank:g}"
        cells += (
            f'<td><span{mark}>{escape(cell.text)}</span><br><span class="soft">{rank}</span></td>'
        )
    return f"<tr>{head(learner, scope='row')}{cells}</tr>"


def overview_tables(found: Sequence[Overview], width: int) -> list[Table]:
    """For the terminal; the best of each stream has a star."""
    tables = []
    for made in found:
        ranks = [_rank_text(made.mean_rank(learner)) for learner in made.learners]
        numbers = [Column("mean\nrank", ranks)]
        for stream in made.streams:
            known = [stream.cells.get(learner) for learner in made.learners]
            texts = ["–" if c is None else f"{c.text}{' *' if c.best else '  '}" for c in known]
            numbers.append(Column(f"{stream.name}\n{stream.metric}".replace(" ", "\n"), texts))
        tables += stacked(
            [Column("learner", made.learners)],
            numbers,
            width=width,
            title="all streams" + ", quick" * made.quick,
            caption="%, mean over seeds; *: best of a stream; mean rank: of its streams, 1 is best",
        )
    return tables
