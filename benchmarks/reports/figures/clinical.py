"""Of medical data, what a clinician reads: sensitivity, specificity, predictive value, F1 and AUROC
of each class, with the counts that they were made of.

A class against all others, over the test recordings of all seeds together; recordings are not
independent where a patient has several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.reports.charts import escape, head, scroll
from benchmarks.reports.numbers import interval, percent
from benchmarks.results.result import Result

MEDICAL = ("ecg", "xray")
HEADS = (
    *("class", "with it", "without", "sensitivity", "specificity", "PPV", "F1", "AUROC"),
    *("found", "missed", "false alarms"),
)


class Counted(NamedTuple):
    """A class against the others: true positives, false negatives, false positives, true
    negatives.
    """

    tp: int
    fn: int
    fp: int
    tn: int

    @property
    def rates(self) -> tuple[float, float, float, float]:
        """Sensitivity, specificity, positive predictive value, F1; NaN where undefined."""
        tp, fn, fp, tn = self
        return (
            _share(tp, tp + fn),
            _share(tn, tn + fp),
            _share(tp, tp + fp),
            _share(2 * tp, 2 * tp + fp + fn),
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def clinical(learners: dict[str, list[Result]]) -> str:
    """A table a row of the results, the first one open; "" of other data."""
    first = next(iter(learners.values()))[0]
    if not set(first.modality.split("+")) & {*MEDICAL}:
        return ""
    boxes = []
    for label, runs in learners.items():
        table = _table(label, runs)
        if table:
            opened = "" if boxes else " open"
            boxes.append(f"<details{opened}><summary>{escape(label)}</summary>{table}</details>")
    if not boxes:
        return ""
    return (
        '<h3>Classes, clinically</h3><p class="soft">Each class against all others after the last '
        "experience; the counts of all seeds together, AUROC the mean over seeds. A dash: not "
        "defined, or not measured.</p>" + "".join(boxes)
    )


def _table(label: str, runs: Sequence[Result]) -> str:
    names = runs[0].class_names
    counts = counted(runs)
    areas = [_mean([_areas(run).get(name) for run in runs]) for name in names]
    present = [_present(runs, name) for name in names]
    rows = []
    for i, name in enumerate(names):
        own = counts[i] if counts else None
        if own is None and math.isnan(areas[i]):
            continue
        sides = present[i] if own is None else (str(own.tp + own.fn), str(own.tn + own.fp))
        rates = [_percent(r) for r in own.rates] if own is not None else ["–"] * 4
        last = [str(n) for n in own[:3]] if own is not None else ["–"] * 3
        cells = "".join(f"<td>{c}</td>" for c in (*sides, *rates, _percent(areas[i]), *last))
        rows.append(f"<tr>{head(name, scope='row')}{cells}</tr>")
    if not rows:
        return ""
    caption = f"{label}: percent and numbers of test recordings, {len(runs)} seed(s)"
    if not counts:
        caption += "; without a threshold there is neither sensitivity nor specificity"
    heads = "".join(map(head, HEADS))
    return scroll(
        f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>",
        f"Classes of {label}",
    )


def counted(runs: Sequence[Result]) -> list[Counted]:
    """Of each class, over all seeds; [] where no run has been counted."""
    names, total = runs[0].class_names, None
    told = [found for run in runs if (found := run.metrics.get("per_class_confusion"))]
    if told and all(name in found for found in told for name in names):
        return [
            Counted(*np.sum([found[name] for found in told], axis=0).tolist()) for name in names
        ]
    for run in runs:
        matrix = run.metrics.get("confusion_matrix")
        if matrix and run.class_names == names:
            counts = np.array(matrix, dtype=np.int64)
            # The last column of some counts answers that name no class.
            wide = np.zeros((len(names), len(names) + 1), dtype=np.int64)
            wide[:, : counts.shape[1]] = counts
            total = wide if total is None else total + wide
    if total is None:
        return []
    hits, true = np.diagonal(total), total.sum(axis=1)
    said, every = total.sum(axis=0)[:-1], int(total.sum())
    return [
        Counted(int(h), int(t - h), int(s - h), int(every - t - s + h))
        for h, t, s in zip(hits, true, said, strict=True)
    ]


def _areas(run: Result) -> dict[str, float | None]:
    return run.metrics.get("per_class_auroc") or run.metrics.get("one_vs_rest_auroc") or {}


def _present(runs: Sequence[Result], name: str) -> tuple[str, str]:
    """Positives and negatives of multi-label data, of all seeds."""
    found = [run.metrics.get("per_class_counts", {}).get(name) for run in runs]
    known = [pair for pair in found if pair]
    if not known:
        return "–", "–"
    return str(sum(pair[0] for pair in known)), str(sum(pair[1] for pair in known))


def _mean(values: Sequence[float | None]) -> float:
    found = interval(values)
    return math.nan if found is None else found.mean


def _percent(value: float) -> str:
    return percent(value) if math.isfinite(value) else "–"
