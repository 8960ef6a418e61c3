"""What is told of models that tell look-alikes apart: scores, and differences item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.reports.numbers import percent
from benchmarks.reports.parts import Part
from benchmarks.reports.tables import by_learner
from benchmarks.results.result import Result
from multimodal.evaluation.compositional_intervals import differences

SCORES = {"text_score": "text", "audio_score": "signal", "group_score": "group"}


def item_parts(group: Sequence[Result]) -> list[Part]:
    """The tables of comparable results; none where there are no items."""
    if not any(_details(result) for result in group):
        return []
    learners = {
        label: [run for run in runs if _details(run)] for label, runs in by_learner(group).items()
    }
    learners = {label: runs for label, runs in learners.items() if runs}
    known = next(iter(learners.values()))[0]
    first = _details(known)
    counts = ", ".join(f"{count} of {n}" for n, count in first["items"].items())
    what = f"items: {counts} recordings; mode {first['mode']}"
    rows = [(f"seed {run.seed}", label) for label, runs in learners.items() for run in runs]
    columns = [
        (heading, [_cell(run, key) for runs in learners.values() for run in runs])
        for key, heading in SCORES.items()
    ]
    chances = ", ".join(
        f"{heading} {percent(group_chance)}"
        for key, heading in SCORES.items()
        if (group_chance := known.metrics.get(key.replace("_score", "_chance"))) is not None
    )
    caption = f"%, with 95 % intervals over items; {what}; chance: {chances}"
    found = [Part("Look-alikes told apart", rows, columns, caption)]
    paired = _paired(learners)
    return [*found, paired] if paired else found


def _details(result: Result) -> dict[str, Any]:
    return result.evaluation.get("compositional") or {}


def _cell(run: Result, key: str) -> str:
    low, high = run.evaluation["intervals"][key]
    return f"{percent(run.metrics[key])} ({percent(low)} to {percent(high)})"


def _paired(learners: Mapping[str, list[Result]]) -> Part | None:
    """Every model against the first, over the seeds that both have and the same items."""
    (reference, base), *others = learners.items()
    rows, cells = [], {key: [] for key in SCORES}
    for label, runs in others:
        pairs = [(one, two) for one in runs for two in base if _same_items(one, two)]
        if not pairs:
            continue
        one, two = (
            {k: _hits([pair[side] for pair in pairs], k) for k in SCORES} for side in (0, 1)
        )
        values, spans = differences(one, two, np.array(_details(pairs[0][0])["sizes"]))
        seeds = len(pairs)
        rows.append((f"{seeds} seed{'s' * (seeds > 1)}", label))
        for key, own in cells.items():
            low, high = spans[key]
            own.append(f"{percent(values[key])} ({percent(low)} to {percent(high)})")
    if not rows:
        return None
    caption = (
        f"percentage points, row minus {reference}: mean over shared seeds, 95 % interval of the "
        "paired bootstrap over items"
    )
    return Part(
        f"Paired difference to {reference}",
        rows,
        [(heading, cells[key]) for key, heading in SCORES.items()],
        caption,
    )


def _same_items(one: Result, two: Result) -> bool:
    a, b = _details(one), _details(two)
    return one.seed == two.seed and all(a[k] == b[k] for k in ("items_hash", "mode", "sizes"))


def _hits(runs: Sequence[Result], key: str) -> np.ndarray:
    """(S, I) bool."""
    return np.array([[bit == "1" for bit in _details(run)["hits"][key]] for run in runs])
