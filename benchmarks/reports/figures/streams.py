"""The report's figures: curves, accuracy matrices, forgetting, classes and confusions.

Each takes {row label: runs, one a seed} and returns HTML, "" where no run has the numbers.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from benchmarks.reports.charts import Point, Series, bar_chart, escape, heat_table
from benchmarks.reports.lines import line_chart, percent_axis
from benchmarks.reports.numbers import interval
from benchmarks.results.result import Result
from continual.metrics import forgetting_per_experience

FEW_CLASSES = 15
MOST_CONFUSED = 50
NO_CLASS = "(no class)"


def matrix(result: Result) -> np.ndarray | None:
    """(rows, T) accuracies or AUROCs, fractions, NaN where undefined; None if there is none."""
    return None if result.matrix is None else np.array(result.matrix, dtype=float)


def exposed_curve(result: Result) -> list[tuple[int, float]]:
    """(i + 1, score over the classes exposed after experience i), a fraction, for each row.

    R[i][0..i] weighted by the experiences' numbers of test recordings (multi-label streams: they
    share them, so by 1). A single row (joint training) stands after the last experience.
    """
    accuracies = matrix(result)
    if accuracies is None:
        return []
    rows, steps = accuracies.shape
    weights = np.array([experience["num_test"] for experience in result.experiences], dtype=float)
    curve = []
    for row in range(rows):
        i = steps - rows + row
        total = weights[: i + 1].sum()
        mean = accuracies[row, : i + 1] @ weights[: i + 1] / total if total else math.nan
        curve.append((i + 1, float(mean)))
    return curve


def _points(values: dict[int, list[float]]) -> list[Point]:
    means = {x: interval(v) for x, v in values.items()}
    return [
        Point(x, mean.mean, mean.half_width) if mean else Point(x, math.nan, None)
        for x, mean in means.items()
    ]


def _score(learners: dict[str, list[Result]]) -> str:
    """What the runs' matrices are of; comparable runs are of one kind."""
    return next(iter(learners.values()))[0].score


def curves(learners: dict[str, list[Result]]) -> str:
    series = []
    for style, (label, runs) in enumerate(learners.items()):
        values: dict[int, list[float]] = {}
        for run in runs:
            for x, mean in exposed_curve(run):
                values.setdefault(x, []).append(mean)
        series.append(Series(label, _points(values), style))
    if not any(s.points for s in series):
        return ""
    steps = max(p.x for s in series for p in s.points)
    title = f"Average {_score(learners)} over the classes exposed so far"
    axis = percent_axis(f"{_score(learners)}, %")
    chart = line_chart(series, steps=steps, title=title, x_label="after experience", axis=axis)
    return (
        f'<h3>{title}</h3><div class="card">{chart}<p class="soft">Percent; '
        "mean over seeds, shaded: 95 % interval. A learner with a single point was trained on "
        "everything at once.</p></div>"
    )


def matrices(learners: dict[str, list[Result]]) -> str:
    found = {
        label: [m for m in map(matrix, runs) if m is not None] for label, runs in learners.items()
    }
    cards = _matrix_cards(found, untrained=False)
    if not cards:
        return ""
    what = _score(learners)
    return (
        f'<h3>{what[0].upper()}{what[1:]} matrices</h3><p class="soft">Percent, on the test set of '
        "each experience (column) after training on each experience (row); mean over seeds.</p>"
        f'<div class="grid">{cards}</div>'
    )


def held_out(learners: dict[str, list[Result]]) -> str:
    """Of modality-incremental streams with classes that are never shown."""
    found = {
        label: [
            np.array(rows, dtype=float)
            for run in runs
            if (rows := run.metrics.get("held_out_zero_shot_matrix"))
        ]
        for label, runs in learners.items()
    }
    cards = _matrix_cards(found, untrained=True)
    if not cards:
        return ""
    return (
        '<h3>Classes that are never shown</h3><p class="soft">Percent of their test recordings '
        "that are named rightly by texts alone, among the held-out classes of each experience's "
        "modality (column), before training and after each experience (row); mean over seeds.</p>"
        f'<div class="grid">{cards}</div>'
    )


def _matrix_cards(found: dict[str, list[np.ndarray]], *, untrained: bool) -> str:
    """A table for each row that has matrices, of their mean. untrained: the first row is that of
    the model before the stream; a single row is else that after all of it.
    """
    cards = []
    for label, each in found.items():
        if not each:
            continue
        mean = np.mean(each, axis=0)
        rows, steps = mean.shape
        trained = rows - untrained
        after = [f"after {i + 1}" for i in range(steps)] if trained == steps else ["after all"]
        table = heat_table(
            mean.tolist(),
            rows=[*["untrained"] * untrained, *after],
            columns=[str(j + 1) for j in range(steps)],
            corner="test set",
            caption=label,
        )
        cards.append(f'<div class="card">{table}</div>')
    return "".join(cards)


def forgetting(learners: dict[str, list[Result]]) -> str:
    series = []
    for style, (label, runs) in enumerate(learners.items()):
        values: dict[int, list[float]] = {}
        for accuracies in map(matrix, runs):
            if accuracies is not None and np.isfinite(accuracies).all():
                for j, lost in enumerate(forgetting_per_experience(accuracies)):
                    values.setdefault(j + 1, []).append(float(lost))
        points = [p for p in _points(values) if math.isfinite(p.mean)]
        if points:
            series.append(Series(label, points, style))
    if not series:
        return ""
    means = [point.mean for s in series for point in s.points]
    low = math.floor(10 * min(0.0, *means)) / 10
    high = math.ceil(10 * max(0.1, *means)) / 10
    cards = []
    for s in series:
        title = f"Forgetting of each experience: {s.label}"
        chart = bar_chart(s, low=low, high=high, title=title, x_label="experience")
        cards.append(f'<div class="card"><strong>{escape(s.label)}</strong>{chart}</div>')
    return (
        '<h3>Forgetting</h3><p class="soft">Percentage points lost: the best '
        f"{_score(learners)} on an experience's test set since it was learned, minus the last one; "
        "mean over seeds. Below zero: it gained.</p>"
        f'<div class="grid">{"".join(cards)}</div>'
    )


def per_class(learners: dict[str, list[Result]]) -> str:
    found: dict[str, list[dict[str, float | None]]] = {}
    for label, runs in learners.items():
        keys = ("per_class_accuracy", "per_class_auroc")
        each = [next(filter(None, map(run.metrics.get, keys)), {}) for run in runs]
        if any(each):
            found[label] = each
    if not found:
        return ""
    names = dict.fromkeys(name for runs in learners.values() for name in runs[0].class_names)
    values = []
    for name in names:
        means = [interval([run.get(name) for run in runs]) for runs in found.values()]
        values.append([mean.mean if mean else math.nan for mean in means])
    what = "AUROC" if _score(learners) == "macro AUROC" else "Accuracy"
    table = heat_table(
        values,
        rows=list(names),
        columns=list(found),
        corner="class",
        caption=f"{what} of each class after the last experience, percent; mean over seeds",
    )
    opened = " open" if len(names) <= FEW_CLASSES else ""
    return (
        f"<h3>Classes</h3><details{opened}><summary>{what} of each class</summary>{table}</details>"
    )


def confusions(learners: dict[str, list[Result]]) -> str:
    boxes = []
    for label, runs in learners.items():
        names = runs[0].class_names
        if any(run.metrics.get("confusion_cells") for run in runs):
            boxes.append(_frequent(label, runs))
            continue
        counts = [_counts(run, names) for run in runs if run.metrics.get("confusion_matrix")]
        if not counts:
            continue
        total = np.sum(counts, axis=0)
        heads = [*names, NO_CLASS][: total.shape[1]]
        tested = total.sum(axis=1, keepdims=True)
        shares = np.where(tested > 0, total / np.maximum(tested, 1), math.nan)
        tips = [
            [
                f"true {true}, predicted {predicted}: {total[r, c]:.0f} of {tested[r, 0]:.0f}"
                for c, predicted in enumerate(heads)
            ]
            for r, true in enumerate(names)
        ]
        table = heat_table(
            shares.tolist(),
            rows=names,
            columns=heads,
            corner="true \\ predicted",
            caption="Percent of each true class after the last experience; all seeds together",
            digits=0,
            tips=tips,
            upright=True,
        )
        boxes.append(
            f"<details><summary>Confusion matrix: {escape(label)}</summary>{table}</details>"
        )
    return f"<h3>Confusions</h3>{''.join(boxes)}" if boxes else ""


def _frequent(label: str, runs: list[Result]) -> str:
    """The confusions that came most often, of runs with so many classes that a table of all is
    mostly empty.
    """
    found, tested = Counter[tuple[str, str]](), Counter[str]()
    for run in runs:
        names = [*run.class_names, NO_CLASS]
        for true, predicted, count in run.metrics.get("confusion_cells") or []:
            tested[names[true]] += count
            if true != predicted:
                found[names[true], names[predicted]] += count
    most = found.most_common(MOST_CONFUSED)
    table = heat_table(
        [[count / tested[true]] for (true, _), count in most],
        rows=[f"{true} → {predicted}" for (true, predicted), _ in most],
        columns=["percent"],
        corner="true → predicted",
        caption=f"The {len(most)} most frequent confusions of {len(found)}, percent of each true "
        "class after the last experience; all seeds together",
        digits=0,
        tips=[[f"{count} of {tested[true]}"] for (true, _), count in most],
    )
    return f"<details><summary>Frequent confusions: {escape(label)}</summary>{table}</details>"


def _counts(run: Result, names: list[str]) -> np.ndarray:
    """(C, C) or (C, C + 1) counts, rows true, columns predicted, in the order of ``names``.

    The last of C + 1 columns counts answers that name no class.
    """
    places = {name: i for i, name in enumerate(run.class_names)}
    order = [places[name] for name in names]
    counts = np.array(run.metrics["confusion_matrix"], dtype=float)
    unnamed = range(len(names), counts.shape[1])
    return counts[np.ix_(order, [*order, *unnamed])]
