"""What a page shows of runs that write texts: recordings whose intent came out wrong."""

from __future__ import annotations

from benchmarks.reports.charts import escape, head, scroll
from benchmarks.results.result import Result

COLUMNS = {"path": "recording", "said": "reference", "heard": "written"}


def misheard(learners: dict[str, list[Result]]) -> str:
    """Some of them after the last experience, a table a learner, of its first seed."""
    boxes = []
    for label, runs in learners.items():
        lines = runs[0].evaluation.get("misheard") or []
        if not lines:
            continue
        heads = "".join(head(name) for name in COLUMNS.values())
        rows = "".join(
            "<tr>"
            + "".join(f'<td class="words">{escape(line[key])}</td>' for key in COLUMNS)
            + "</tr>"
            for line in lines
        )
        table = (
            f'<table class="text"><caption>Seed {runs[0].seed}; all are in its transcripts.jsonl'
            f"</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        )
        boxes.append(
            f"<details><summary>Wrong intents: {escape(label)}</summary>"
            f"{scroll(table, 'Wrong intents')}</details>"
        )
    return f"<h3>Wrong intents</h3>{''.join(boxes)}" if boxes else ""
