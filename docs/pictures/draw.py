"""The README's picture: what the report of an experiment shows first, as one PNG.

    medley bench demo/ecg seeds=[1,2,3] training.threads=1 output_dir=pictured
    python docs/pictures/draw.py pictured/demo docs/pictures/report.png

The curves and the matrices are those of the report's own functions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.reports.figures.streams import exposed_curve, matrix
from benchmarks.reports.numbers import interval
from benchmarks.reports.pictures import save_figure
from benchmarks.reports.tables import by_learner
from benchmarks.results.files import find_results

# Of the page's style sheet.
COLOURS = ("#0072b2", "#c24a00", "#00795a", "#b04a8a", "#8a6100", "#3a3f47")
MARKERS = "osD^v"
SHOWN = ("finetune", "replay")  # whose matrices stand beside the curves


def draw(runs: Path) -> Figure:
    """Curves of all learners, and accuracy matrices of ``SHOWN``, means over seeds."""
    results = find_results(runs)
    learners = by_learner(results)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, *right = figure.subplots(1, 1 + len(SHOWN), width_ratios=[1.7, 1, 1])
    for style, (label, own) in enumerate(learners.items()):
        _curve(left, label, own, style)
    left.set(ylim=(0, 1), xlabel="after experience", ylabel="accuracy, classes met so far")
    left.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    left.set_xticks(range(1, len(results[0].experiences) + 1))
    left.legend(
        fontsize=8, frameon=False, ncols=len(learners), loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    for axes, label in zip(right, SHOWN, strict=True):
        known = [values for values in map(matrix, learners[label]) if values is not None]
        _matrix(axes, label, np.mean(known, axis=0))
    number = len({result.seed for result in results})
    figure.suptitle(
        f"{results[0].dataset['name']} (SYNTHETIC), {number} seeds, 95 % intervals", fontsize=10
    )
    return figure


def _curve(axes: Any, label: str, own: list[Any], style: int) -> None:
    values: dict[int, list[float]] = {}
    for result in own:
        for x, score in exposed_curve(result):
            values.setdefault(x, []).append(score)
    spans = [(x, interval(v)) for x, v in values.items()]
    known = [(x, span.mean, span.half_width or 0.0) for x, span in spans if span is not None]
    x, mean, half = map(np.array, zip(*known, strict=True))
    colour, mark = COLOURS[style % len(COLOURS)], MARKERS[style % len(MARKERS)]
    axes.plot(x, mean, color=colour, marker=mark, markersize=5, label=label)
    axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.14, linewidth=0)


def _matrix(axes: Any, label: str, values: np.ndarray) -> None:
    axes.imshow(values, vmin=0, vmax=1, cmap="Blues")
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 else "black"
        axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    numbers = [str(i + 1) for i in range(len(values))]
    axes.set_xticks(range(len(values)), numbers)
    axes.set_yticks(range(len(values)), numbers)
    axes.set(title=label, xlabel="test set of experience", ylabel="after experience")


if __name__ == "__main__":
    save_figure(draw(Path(sys.argv[1])), Path(sys.argv[2]), dpi=100)
