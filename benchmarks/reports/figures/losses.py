"""Loss curves, from the journals beside a page; runs whose journal is elsewhere have none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.reports.charts import Point, Series
from benchmarks.reports.lines import line_chart, number_axis
from benchmarks.results.journal import JOURNAL_FILE
from benchmarks.results.result import Result

POINTS = 60  # on a line
MOST_BYTES = 2**26  # of a journal that is read


def losses(learners: dict[str, list[Result]], folder: Path | None) -> str:
    """The training loss over optimiser steps, mean over seeds of bins of equal width.

    folder: of the page, which run folders lie in or which is one itself; None: nothing is drawn.
    """
    if folder is None:
        return ""
    read = {label: [_read(run, folder) for run in runs] for label, runs in learners.items()}
    last = max((step for runs in read.values() for run in runs for step, _ in run), default=0)
    if last == 0:
        return ""
    series = [Series(n, _binned(runs, last), style) for style, (n, runs) in enumerate(read.items())]
    if not any(math.isfinite(p.mean) for s in series for p in s.points):
        return ""
    title = "Training loss"
    axis = number_axis("loss", series)
    chart = line_chart(
        series, steps=last, title=title, x_label="optimiser step", axis=axis, first=0
    )
    return (
        f'<h3>{title}</h3><div class="card">{chart}<p class="soft">Mean over seeds and over steps '
        "that lie near each other. Learners minimise different losses: a lower curve is no better "
        "learner.</p></div>"
    )


def _read(run: Result, folder: Path) -> list[tuple[int, float]]:
    """(step, loss) of a run, in order."""
    places = [folder / run.config_hash / JOURNAL_FILE]
    if folder.name == run.config_hash:
        places.append(folder / JOURNAL_FILE)
    for place in places:
        if place.is_file() and place.stat().st_size <= MOST_BYTES:
            return list(_losses(place))
    return []


def _losses(file: Path) -> Iterator[tuple[int, float]]:
    """A line that is broken, or of another kind, is left out."""
    for line in file.read_text("utf-8", errors="replace").splitlines():
        try:
            data = json.loads(line)
            loss, step = float(data["metrics"]["loss"]), int(data["step"])
        except (ValueError, KeyError, TypeError):
            continue
        if math.isfinite(loss) and step >= 0:
            yield step, loss


def _binned(runs: list[list[tuple[int, float]]], last: int) -> list[Point]:
    """Mean over seeds of each seed's mean in every bin, at the bin's middle."""
    width = max(1.0, last / POINTS)
    sums = np.zeros((len(runs), POINTS + 2))
    counts = np.zeros_like(sums)
    for i, run in enumerate(runs):
        if run:
            steps, values = np.array(run).T
            place = (steps / width).astype(int)
            np.add.at(sums[i], place, values)
            np.add.at(counts[i], place, 1)
    means = np.divide(sums, counts, out=np.full_like(sums, math.nan), where=counts > 0)
    found = []
    for place in range(means.shape[1]):
        own = means[:, place][np.isfinite(means[:, place])]
        if len(own):
            middle = min(last, round((place + 0.5) * width)) if width > 1 else place
            found.append(Point(int(middle), float(own.mean()), None))
    return found
