"""Numbers as tables show them: percent, means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.results.metric_names import COUNTS, DISTANCES, FACTS, RANKS
from continual.metrics import confidence_interval

FORMATS: dict[str, Callable[[float], str]] = {
    **dict.fromkeys(RANKS, "{:.1f}".format),
    **dict.fromkeys(DISTANCES, lambda value: f"{round(value, 2) + 0.0:.2f}".replace("-", "−")),
    **dict.fromkeys(COUNTS, "{:,.0f}".format),
}


class Interval(NamedTuple):
    """Mean over seeds, half width of its 95 % interval (None: one seed), number of seeds."""

    mean: float
    half_width: float | None
    seeds: int


def interval(values: Sequence[float | None]) -> Interval | None:
    """Mean and 95 % interval of the values that are defined, or None if none is."""
    defined = [float(v) for v in values if v is not None and math.isfinite(v)]
    if not defined:
        return None
    mean, half_width = confidence_interval(defined, level=0.95)
    return Interval(float(mean), half_width, len(defined))


def percent(fraction: float) -> str:
    """0.123 -> "12.3", with a true minus sign; never "-0.0"."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}".replace("-", "−")


def interval_text(value: Interval | None, seeds: int, *, key: str = "") -> str:
    """Percent with one decimal, e.g. "61.3 ± 2.1"; "–" for None; says if seeds are missing.

    Ranks and counts are no percent.
    """
    if value is None:
        return "–"
    shown = FORMATS.get(key, percent)
    exact = value.half_width is None or key in (*FACTS, *COUNTS)
    width = "" if exact else f" ± {shown(value.half_width or 0.0)}"
    missing = "" if value.seeds == seeds else f" ({value.seeds} of {seeds} seeds)"
    return shown(value.mean) + width + missing
