"""Figures of online streams on the report's page: accuracy at any time, and what was drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.reports.charts import Point, Series, escape, head, heat_table, scroll
from benchmarks.reports.lines import line_chart, percent_axis
from benchmarks.reports.numbers import interval
from benchmarks.results.result import Result
from continual.online_metrics import AnytimePoint, AurocPoint


def anytime(learners: dict[str, list[Result]]) -> str:
    """Curves over the periodic evaluations, overall and, where it differs, balanced."""
    charts = []
    for which, balanced in (("overall", False), ("balanced over classes", True)):
        series = [
            Series(label, _points(runs, balanced), style)
            for style, (label, runs) in enumerate(learners.items())
        ]
        if not any(s.points for s in series):
            return ""
        if balanced and _multi_label(learners):
            continue
        steps = max(p.x for s in series for p in s.points)
        what = "Macro AUROC" if _multi_label(learners) else f"Accuracy, {which},"
        title = f"{what} on the classes exposed so far"
        period = _periods(learners)
        chart = line_chart(
            series,
            steps=steps,
            title=title,
            x_label=f"evaluation (every {period} recordings)",
            axis=percent_axis(_measure(learners)),
        )
        charts.append(f'<div class="card"><strong>{title}</strong>{chart}</div>')
    charts += [_prequential(learners), _future(learners)]
    return (
        '<h3>At any time</h3><p class="soft">Percent on all test recordings of the classes met so '
        "far; mean over seeds, shaded: 95 % interval. The mean height of a curve is A_AUC.</p>"
        f"{''.join(charts)}"
    )


def _prequential(learners: dict[str, list[Result]]) -> str:
    """How well each batch was named before it was trained on, or nothing."""
    series = [
        Series(label, _mean_curve([_asked_curve(run) for run in runs]), style)
        for style, (label, runs) in enumerate(learners.items())
    ]
    series = [s for s in series if s.points]
    if not series:
        return ""
    title = "Prequential accuracy: each batch named before it is trained on"
    steps = max(p.x for s in series for p in s.points)
    label = f"window (of about {_periods(learners)} recordings)"
    chart = line_chart(series, steps=steps, title=title, x_label=label)
    return f'<div class="card"><strong>{title}</strong>{chart}</div>'


def _future(learners: dict[str, list[Result]]) -> str:
    """Zero-shot curves of the learners that can name classes before they meet them, or nothing."""
    series = [
        Series(label, _mean_curve([_future_curve(run) for run in runs]), style)
        for style, (label, runs) in enumerate(learners.items())
    ]
    series = [s for s in series if s.points]
    if not series:
        return ""
    what = "Macro AUROC" if _multi_label(learners) else "Accuracy"
    title = f"{what} on the classes still to come, named among themselves (zero-shot)"
    steps = max(p.x for s in series for p in s.points)
    label = f"evaluation (every {_periods(learners)} recordings)"
    axis = percent_axis(_measure(learners))
    chart = line_chart(series, steps=steps, title=title, x_label=label, axis=axis)
    return f'<div class="card"><strong>{title}</strong>{chart}</div>'


def draws(group: list[Result]) -> str:
    """For each seed, how the recordings of each class are dealt to the tasks."""
    seeds = {result.seed: result.stream for result in group if result.stream}
    boxes = []
    for number, (seed, stream) in enumerate(sorted(seeds.items())):
        table = _dealt(stream) if "matrix" in stream else _task_table(stream)
        leak = f"{100 * stream['leak_share']:.1f}"
        words = f"seed {seed}: {leak} % of the recordings leaked, {stream['redraws']} redraws"
        notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in stream["notes"])
        boxes.append(
            f"<details{' open' if number == 0 else ''}><summary>{escape(words)}</summary>"
            f"{table}{notes}</details>"
        )
    return f"<h3>Draws</h3>{''.join(boxes)}" if boxes else ""


def _dealt(stream: dict[str, Any]) -> str:
    """A row for each class, a column for each task."""
    counts = np.array(stream["matrix"])
    owners = [{*task["disjoint"], *task["blurry"]} for task in stream["tasks"]]
    tips = [
        [f"{n} recordings{', owned' * (name in own)}" for n, own in zip(row, owners, strict=True)]
        for name, row in zip(stream["classes"], counts.tolist(), strict=True)
    ]
    disjoint = {name for task in stream["tasks"] for name in task["disjoint"]}
    names = [f"{n} (disjoint)" if n in disjoint else n for n in stream["classes"]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = np.where(counts.sum(axis=1, keepdims=True) > 0, shares, math.nan)
    return heat_table(
        shares.tolist(),
        rows=names,
        columns=[f"task {i + 1} ({t['num_train']})" for i, t in enumerate(stream["tasks"])],
        corner="class",
        caption="Percent of a class's recordings in each task (its recordings)",
        digits=0,
        tips=tips,
    )


def _task_table(stream: dict[str, Any]) -> str:
    """A row for each task, of a stream of so many classes that theirs would be mostly empty."""
    heads = ("task", "recordings", "classes in it", "disjoint", "blurry")
    rows = []
    for task in stream["tasks"]:
        sizes = (len(task["disjoint"]), len(task["blurry"]))
        numbers = (task["num_train"], task["num_present"], *sizes)
        cells = "".join(f"<td>{n}</td>" for n in numbers)
        rows.append(f"<tr>{head(task['name'], scope='row')}{cells}</tr>")
    caption = f"What was dealt to each task, of {len(stream['classes'])} classes"
    return scroll(
        f"<table><caption>{caption}</caption><thead><tr>{''.join(map(head, heads))}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>",
        caption,
    )


def _points(runs: list[Result], balanced: bool) -> list[Point]:
    """The k-th periodic evaluation of all seeds at place k, from 1."""
    return _mean_curve([_curve(run, balanced) for run in runs])


def _mean_curve(curves: list[list[float | None]]) -> list[Point]:
    points = []
    for k in range(max(map(len, curves), default=0)):
        found = interval([curve[k] for curve in curves if k < len(curve)])
        if found is not None:
            points.append(Point(k + 1, found.mean, found.half_width))
    return points


def _curve(run: Result, balanced: bool) -> list[float | None]:
    records = run.metrics.get("anytime", {}).get("periodic", [])
    points = [AurocPoint(**r) if "auroc" in r else AnytimePoint(**r) for r in records]
    return [p.balanced if balanced else p.overall for p in points]


def _asked_curve(run: Result) -> list[float | None]:
    asked = run.metrics.get("anytime", {}).get("prequential", {})
    return [windowed for _, _, windowed in asked.get("points", [])]


def _future_curve(run: Result) -> list[float | None]:
    return [point["score"] for point in run.metrics.get("anytime", {}).get("future", [])]


def _multi_label(learners: dict[str, list[Result]]) -> bool:
    return any("per_class_auroc" in run.metrics for runs in learners.values() for run in runs)


def _measure(learners: dict[str, list[Result]]) -> str:
    return "macro AUROC, %" if _multi_label(learners) else "accuracy, %"


def _periods(learners: dict[str, list[Result]]) -> str:
    found = {run.metrics["anytime"]["eval_period"] for runs in learners.values() for run in runs}
    return " or ".join(map(str, sorted(found)))
