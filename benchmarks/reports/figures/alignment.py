"""What a page shows of alignment and zero-shot runs: wordings, similarities, embedding maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.reports.charts import COLOURS, escape, head, heat_table, marker, open_svg, scroll
from benchmarks.reports.numbers import percent
from benchmarks.results.result import Result

SIDE, EDGE = 360, 14


def wordings(learners: dict[str, list[Result]]) -> str:
    """Top-1 accuracy of every template alone, mean over seeds, one column a learner."""
    columns = {label: _mean_top1(runs) for label, runs in learners.items()}
    columns = {label: values for label, values in columns.items() if values}
    if not columns:
        return ""
    templates = list(dict.fromkeys(t for values in columns.values() for t in values))
    rows = []
    for template in templates:
        cells = "".join(
            f"<td>{percent(values[template]) if template in values else '–'}</td>"
            for values in columns.values()
        )
        rows.append(f"<tr>{head(template, scope='row')}{cells}</tr>")
    heads = "".join(head(name) for name in ("template", *columns))
    caption = "Zero-shot top-1 accuracy in percent, each template alone; mean over seeds"
    table = (
        f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return f'<h3>Wordings</h3><div class="card">{scroll(table, "Wordings")}</div>'


def _mean_top1(runs: Sequence[Result]) -> dict[str, float]:
    found = [
        run.evaluation["top1_by_template"] for run in runs if run.evaluation.get("top1_by_template")
    ]
    if not found:
        return {}
    return {t: float(np.mean([f[t] for f in found if t in f])) for t in found[0]}


def similarities(learners: dict[str, list[Result]]) -> str:
    """Mean cosine of each class's recordings with each class prompt, of the first seed."""
    boxes = []
    for label, runs in learners.items():
        values = runs[0].evaluation.get("similarity")
        if not values:
            continue
        names = runs[0].evaluation["map"]["class_names"]
        table = heat_table(
            [[math.nan if v is None else v for v in row] for row in values],
            rows=names,
            columns=names,
            corner="recordings of \\ prompt",
            caption=f"100 x mean cosine, seed {runs[0].seed}",
            digits=0,
            upright=True,
        )
        boxes.append(f"<details><summary>Similarity: {escape(label)}</summary>{table}</details>")
    return f"<h3>Similarities</h3>{''.join(boxes)}" if boxes else ""


def maps(learners: dict[str, list[Result]]) -> str:
    """Recordings and class prompts in one plane, of the first seed."""
    cards = []
    for label, runs in learners.items():
        data = runs[0].evaluation.get("map")
        if data:
            cards.append(f'<div class="card"><p>{escape(label)}</p>{_scatter(data)}</div>')
    if not cards:
        return ""
    return (
        '<h3>Embedding maps</h3><p class="soft">The plane in which the classes differ most: '
        "recordings (small marks, by class) and class prompts (names), each side centred by "
        "itself; first seed.</p>"
        f'<div class="grid">{"".join(cards)}</div>'
    )


def _scatter(data: dict[str, Any]) -> str:
    names, points = data["class_names"], data["signals"]
    every = np.array([*[p[:2] for p in points], *data["classes"]], dtype=float)
    low, high = every.min(axis=0), every.max(axis=0)
    scale = (SIDE - 2 * EDGE) / np.maximum(high - low, 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        return EDGE + (x - low[0]) * scale[0], SIDE - EDGE - (y - low[1]) * scale[1]

    explained = " and ".join(percent(v) for v in data["explained"])
    parts = [
        open_svg(
            SIDE,
            SIDE,
            "Embedding map",
            f"The axes hold {explained} % of the variance between classes.",
        )
    ]
    for x, y, label in points:
        parts.append(marker(label, *at(x, y), names[label]))
    for label, (x, y) in enumerate(data["classes"]):
        left, top = at(x, y)
        anchor = "start" if left < SIDE / 2 else "end"
        parts.append(
            f'<text class="s{label % COLOURS}" x="{left:.1f}" y="{top:.1f}" '
            f'text-anchor="{anchor}" style="font-weight:600">{escape(names[label])}</text>'
        )
    return "".join([*parts, "</svg>"])
