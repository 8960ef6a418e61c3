"""Published figures of the same data and stream, in a table of their own: never in ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from benchmarks.reports import published
from benchmarks.reports.charts import escape, head, scroll
from benchmarks.reports.numbers import interval_text, percent
from benchmarks.reports.ranking import Ranked
from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import Result
from multimodal.registry import Config
from multimodal.yaml_limits import load

Fraction = Annotated[float, Field(ge=0, le=1.5)]  # word error rates may exceed 1


class Reference(Config):
    """A published table. datasets: names in results, in the order of each row's lists of values;
    values in the order of ``metrics``, fractions. where: dotted setting -> what it must be.
    """

    title: str
    source: str
    evidence: str
    metrics: tuple[str, ...]
    protocol: str
    differs: tuple[str, ...]
    where: dict[str, str | int]
    datasets: tuple[str, ...]
    rows: dict[str, tuple[tuple[Fraction, ...], ...]]

    def fits(self, result: Result) -> bool:
        """It is of the run's data and stream."""
        known = result.dataset.get("name") in self.datasets and not result.quick
        return known and all(_setting(result.config, k) == v for k, v in self.where.items())


@cache
def references() -> tuple[Reference, ...]:
    """All that are shipped, by file name."""
    files = sorted(Path(published.__file__).parent.glob("*.yaml"))
    return tuple(Reference.parse(load(file.read_text("utf-8"))) for file in files)


def beside_published(group: Sequence[Result], table: Ranked) -> str:
    """A card for each published table that fits comparable results; "" for none."""
    found = [each for each in references() if each.fits(group[0])]
    if not found:
        return ""
    return f"<h3>Published figures</h3>{''.join(_card(each, group[0], table) for each in found)}"


def _card(each: Reference, first: Result, table: Ranked) -> str:
    at = each.datasets.index(str(first.dataset.get("name")))
    heads = ("", *(METRICS[key] for key in each.metrics))
    body = [
        _row(f"{name} (published)", [percent(value) for value in values[at]])
        for name, values in each.rows.items()
    ]
    for row in table.rows:
        cells = [interval_text(row.values.get(key), row.seeds, key=key) for key in each.metrics]
        if any(cell != "–" for cell in cells):
            body.append(_row(f"{row.learner} (ours)", cells))
    caption = f"{each.title}. {each.source}; evidence: {each.evidence}. Percent"
    html = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{''.join(map(head, heads))}</tr>"
        f"</thead><tbody>{''.join(body)}</tbody></table>"
    )
    differs = "; ".join(each.differs)
    return (
        f'<div class="card">{scroll(html, each.title)}<p class="soft">Same data and stream '
        f"({escape(each.protocol)}). What differs: {escape(differs)}.</p></div>"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    return f"<tr>{head(name, scope='row')}{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>"


def _setting(config: dict[str, Any], dotted: str) -> Any:
    here: Any = config
    for part in dotted.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here
