"""The beginning of a report's section: which learner is best, by how much, and the table."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.reports.charts import escape, head, scroll
from benchmarks.reports.exports import FEW_SEEDS, cell_text
from benchmarks.reports.numbers import interval_text
from benchmarks.reports.ranking import Ranked
from benchmarks.reports.significance import paired
from benchmarks.reports.tables import Row, columns
from benchmarks.results.metric_names import LOWER, METRICS

MAJORITY = "majority"


def sentence(table: Ranked) -> str:
    """The answer in words, as HTML; "" where no row has the metric."""
    rows = table.competitors
    if not rows:
        return ""
    words = [_first(table, rows)]
    if len(rows) > 1:
        words.append(_second(table, rows[0], rows[1]))
    for name in sorted(table.bounds):
        words.append(
            f"Joint training ({_name(name)}), the upper bound, reaches {_value(table, name)}."
        )
    if MAJORITY in table.runs and rows[0].learner != MAJORITY:
        words.append(f"Always the most frequent class: {_value(table, MAJORITY)}.")
    if rows[0].seeds == 1:
        words.append("One seed only: another one may order the rows otherwise.")
    return f'<p class="answer">{" ".join(words)}</p>'


def _first(table: Ranked, rows: Sequence[Row]) -> str:
    best, metric = rows[0], escape(METRICS[table.key])
    what = f"{metric} {_value(table, best.learner)}"
    if len(rows) == 1:
        return f"{_name(best.learner)}: {what}."
    word = "lowest" if table.key in LOWER else "best"
    return f"{_name(best.learner)} is {word} of {len(rows)}: {what}."


def _second(table: Ranked, best: Row, second: Row) -> str:
    """How far the next one is, and whether the seeds tell the two apart."""
    words = f"Next is {_name(second.learner)} with {_value(table, second.learner)}"
    found = paired(table, best.learner, second.learner)
    if found is None:
        return f"{words}."
    ahead = found.apart if table.key not in LOWER else found.apart._replace(mean=-found.apart.mean)
    words += (
        f"; over the {found.apart.seeds} seeds of both the first is "
        f"{interval_text(ahead, ahead.seeds)} points ahead"
    )
    if found.apart.seeds < FEW_SEEDS:
        return f"{words}, too few seeds to tell them apart."
    clear = abs(ahead.mean) > (ahead.half_width or 0.0)
    return f"{words}: the seeds {'tell' if clear else 'do not tell'} them apart (95 % t interval)."


def _name(learner: str) -> str:
    return f"<strong>{escape(learner)}</strong>"


def _value(table: Ranked, learner: str) -> str:
    text = cell_text(table, learner, table.key)
    return escape(f"{text} %" if "(" not in text else text.replace(" (", " % (", 1))


def results_table(table: Ranked) -> str:
    """All metrics, the table's own first; rows best first, the best of each column marked."""
    rows = table.rows
    shown = [table.key, *(key for key in columns(rows) if key != table.key)]
    shown = [key for key in shown if key in columns(rows)]
    best = {key: table.best(key) for key in shown}
    names = [f"{METRICS[key]}{' ▾' if key == table.key else ''}" for key in shown]
    heads = "".join(head(name) for name in ["learner", *names, "seeds", "seconds"])
    body = []
    for row in rows:
        marks = [' class="best"' if row.learner in best[key] else "" for key in shown]
        texts = [escape(cell_text(table, row.learner, key)) for key in shown]
        cells = "".join(f"<td{m}>{t}</td>" for m, t in zip(marks, texts, strict=True))
        bound = " (upper bound)" if row.learner in table.bounds else ""
        name = head(f"{row.learner}{bound}", scope="row")
        body.append(f"<tr>{name}{cells}<td>{row.seeds}</td><td>{row.seconds:.1f}</td></tr>")
    few = min((row.seeds for row in rows), default=0) < FEW_SEEDS
    caption = "Percent; mean ± half width of the 95 % interval (Student t) over seeds"
    if few:
        caption += f", below {FEW_SEEDS} seeds the seeds themselves in brackets"
    caption += (
        f"; sorted by {METRICS[table.key]}; the best of a column is bold and underlined (upper "
        "bounds do not compete); seconds: mean of a run"
    )
    html = (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )
    return f'<h3>Results</h3><div class="card">{scroll(html, "Results")}</div>'


def answer(table: Ranked) -> str:
    """Sentence and table."""
    return sentence(table) + results_table(table)
