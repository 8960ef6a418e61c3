"""Tables of results for other programs and for papers: CSV, JSON, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from benchmarks.reports.numbers import interval_text
from benchmarks.reports.overview import Overview, overviews
from benchmarks.reports.ranking import Ranked, ranked
from benchmarks.reports.tables import columns, comparable, data_title
from benchmarks.results.metric_names import LOWER, MAIN_METRICS, METRICS
from benchmarks.results.result import Result

Format = Literal["csv", "markdown", "latex", "json"]
TextRow = tuple[str, list[tuple[str, bool]]]  # name; text of each column, and whether it is best
FEW_SEEDS = 3  # below it an interval says nothing: the seeds themselves are shown
LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"−": "$-$", "±": r"$\pm$", "–": "--", "→": r"$\rightarrow$"}
)
MARKDOWN = str.maketrans({"|": r"\|", "*": r"\*", "_": r"\_", "<": "&lt;"})


def export(results: Sequence[Result], form: Format, *, by: str | None = None) -> str:
    """One table of each comparable group, its rows best first. by: see ``ranked``.

    csv, json: fractions as they are; markdown, latex: percent as in reports, the best ones bold,
    below a table of all streams where these share learners.
    """
    groups = comparable(results)
    tables = [ranked(group, by) for group in groups]
    whole = _overviews(results, form) if form in ("markdown", "latex") else ""
    return whole + WRITERS[form](groups, tables)


def _overviews(results: Sequence[Result], form: Format) -> str:
    return "".join(
        f"{TABLES[form](_overview_caption(made), *_overview_cells(made))}\n"
        for made in overviews(results)
    )


def _overview_caption(made: Overview) -> str:
    quick = ", quick runs" * made.quick
    return (
        f"All streams{quick}: of each the metric that its table is sorted by, %, mean over seeds; "
        "mean rank: of the streams that a learner has a value of, 1 is best"
    )


def _overview_cells(made: Overview) -> tuple[list[str], list[TextRow]]:
    heads = ["mean rank", *(f"{s.name}: {s.metric}" for s in made.streams)]
    rows = []
    for learner in made.learners:
        rank = made.mean_rank(learner)
        cells = [("–" if rank is None else f"{rank:.1f}", False)]
        for stream in made.streams:
            cell = stream.cells.get(learner)
            cells.append(("–", False) if cell is None else (cell.text, cell.best))
        rows.append((learner, cells))
    return heads, rows


def _records(group: Sequence[Result], table: Ranked) -> list[dict[str, Any]]:
    """A plain record of each row."""
    first = group[0]
    about = {
        "experiment": first.experiment,
        "dataset": first.dataset.get("name"),
        "version": first.dataset.get("version"),
        "split": first.dataset.get("split_rule"),
        "scenario": first.scenario,
        "modality": first.modality,
        "synthetic": bool(first.dataset.get("synthetic")),
        "quick": first.quick,
    }
    records = []
    for row in table.rows:
        runs = table.runs[row.learner]
        seeds = [run.seed for run in runs]
        metrics = {
            key: {
                "mean": value.mean,
                "half_width": value.half_width,
                "seeds": [run.metrics.get(key) for run in runs],
            }
            for key, value in row.values.items()
            if value is not None
        }
        own = {"learner": row.learner, "upper_bound": row.learner in table.bounds, "seeds": seeds}
        records.append({**about, **own, "seconds": row.seconds, "metrics": metrics})
    return records


def _json(groups: Sequence[list[Result]], tables: Sequence[Ranked]) -> str:
    found = [
        {"sorted_by": table.key, "rows": _records(group, table)}
        for group, table in zip(groups, tables, strict=True)
    ]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _csv(groups: Sequence[list[Result]], tables: Sequence[Ranked]) -> str:
    """A line a row; of each metric the mean and the half width of its 95 % interval."""
    records = [r for pair in zip(groups, tables, strict=True) for r in _records(*pair)]
    keys = [key for key in METRICS if any(key in record["metrics"] for record in records)]
    about = [key for key in records[0] if key != "metrics"] if records else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*about, *(f"{key}{end}" for key in keys for end in ("", "_half_width"))])
    for record in records:
        own = {**record, "seeds": " ".join(map(str, record["seeds"]))}
        values = [record["metrics"].get(key, {}) for key in keys]
        numbers = [value.get(part) for value in values for part in ("mean", "half_width")]
        writer.writerow([*(own[key] for key in about), *numbers])
    return text.getvalue()


def _cells(table: Ranked) -> tuple[list[str], list[TextRow]]:
    """Heads, and of each row its name and (text, is best) of each metric."""
    shown = [key for key in columns(table.rows) if key in MAIN_METRICS or key == table.key]
    shown = [key for key in shown if any(row.values.get(key) for row in table.rows)]
    best = {key: table.best(key) for key in shown}
    rows = [
        (
            f"{row.learner} (upper bound)" if row.learner in table.bounds else row.learner,
            [(cell_text(table, row.learner, key), row.learner in best[key]) for key in shown],
        )
        for row in table.rows
    ]
    return [f"{METRICS[key]} {'↓' if key in LOWER else '↑'}" for key in shown], rows


def cell_text(table: Ranked, learner: str, key: str) -> str:
    """Mean ± half width; of fewer than FEW_SEEDS seeds the mean and what each seed came to."""
    (row,) = (row for row in table.rows if row.learner == learner)
    value = row.values.get(key)
    if value is None or value.half_width is None or value.seeds >= FEW_SEEDS:
        return interval_text(value, row.seeds, key=key)
    mean = interval_text(value._replace(half_width=None), row.seeds, key=key)
    own = [run.metrics.get(key) for run in table.runs[learner]]
    each = [interval_text(value._replace(mean=v, half_width=None, seeds=1), 1, key=key)
            for v in own if v is not None]  # fmt: skip
    return f"{mean} ({'; '.join(each)})" if len(set(each)) > 1 else mean


def caption(group: Sequence[Result], table: Ranked) -> str:
    """What a table shows, in words."""
    seeds = sorted({len(runs) for runs in table.runs.values()})
    few = seeds[0] < FEW_SEEDS
    spread = "seeds in brackets" if few else "± half width of the 95 % interval over seeds"
    number = " or ".join(map(str, seeds))
    return (
        f"{group[0].experiment}: {data_title(group[0])}, {group[0].scenario}; "
        f"split: {group[0].dataset.get('split_rule') or 'unknown'}; %, mean {spread} ({number}); "
        f"sorted by {METRICS[table.key]}"
    )


def _markdown(groups: Sequence[list[Result]], tables: Sequence[Ranked]) -> str:
    found = []
    for group, table in zip(groups, tables, strict=True):
        heads, rows = _cells(table)
        counted = [
            (name, [*cells, (str(row.seeds), False)])
            for (name, cells), row in zip(rows, table.rows, strict=True)
        ]
        found.append(_markdown_table(caption(group, table), [*heads, "seeds"], counted))
    return "\n".join(found)


def _markdown_table(title: str, heads: Sequence[str], rows: Sequence[TextRow]) -> str:
    named = [head.translate(MARKDOWN) for head in heads]
    lines = [["learner", *named], ["---", *["---:"] * len(heads)]]
    for name, cells in rows:
        texts = [f"**{text}**" if best else text for text, best in cells]
        lines.append([name.translate(MARKDOWN), *texts])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{title.translate(MARKDOWN)}\n\n{body}\n"


def _latex(groups: Sequence[list[Result]], tables: Sequence[Ranked]) -> str:
    pairs = zip(groups, tables, strict=True)
    return "\n".join(_latex_table(caption(group, table), *_cells(table)) for group, table in pairs)


def _latex_table(title: str, heads: Sequence[str], rows: Sequence[TextRow]) -> str:
    """For the package booktabs."""
    body = [" & ".join(["learner", *map(_latex_head, heads)])]
    for name, cells in rows:
        texts = [text.translate(LATEX) for text, _ in cells]
        bold = [best for _, best in cells]
        texts = [rf"\textbf{{{t}}}" if b else t for t, b in zip(texts, bold, strict=True)]
        body.append(" & ".join([name.translate(LATEX), *texts]))
    columns_ = "l" + "r" * len(heads)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{title.translate(LATEX)}.}}",
        rf"\begin{{tabular}}{{{columns_}}}",
        r"\toprule",
        rf"{body[0]} \\",
        r"\midrule",
        *(rf"{line} \\" for line in body[1:]),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_head(head: str) -> str:
    arrow = {"↓": r" $\downarrow$", "↑": r" $\uparrow$"}.get(head[-1], "")
    return (head[:-2] if arrow else head).translate(LATEX) + arrow


Writer = Callable[[Sequence[list[Result]], Sequence[Ranked]], str]
WRITERS: dict[Format, Writer] = {
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}
TABLES = {"markdown": _markdown_table, "latex": _latex_table}
