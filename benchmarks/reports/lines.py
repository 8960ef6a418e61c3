"""Line charts as wide as their card, drawn twice: for wide screens and for phones, where text must
stay readable; below them a legend that tells every row in full.

Like ``charts``, it returns HTML text with all names escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.reports.charts import (
    COLOURS,
    DASHES,
    LETTER,
    MOST_PRINTED,
    Point,
    Series,
    escape,
    marker,
    open_svg,
    point_text,
    svg_text,
)

# In units that are about a pixel on the screens that each is for.
SIZES = {"wide": (760, 330), "narrow": (340, 250)}
TOP, BOTTOM, RIGHT = 12, 44, 14
TICK_LETTERS = 1.8  # room of a tick's label, in its own widths
Show = Callable[[float, float | None], str]
At = Callable[[float, float], tuple[float, float]]


class Axis(NamedTuple):
    """Upright: label, values that have a line, how these read, and how a point reads."""

    label: str
    ticks: tuple[float, ...]
    show: Callable[[float], str]
    point: Show


def percent_axis(label: str) -> Axis:
    """Of fractions in [0, 1]."""
    show = lambda value: f"{100 * value:.0f}"  # noqa: E731
    return Axis(label, (0.0, 0.25, 0.5, 0.75, 1.0), show, point_text)


def number_axis(label: str, series: Sequence[Series]) -> Axis:
    """Of any numbers: from 0, or from below the lowest where some are negative."""
    means = [p.mean for s in series for p in s.points if math.isfinite(p.mean)]
    low, high = min(0.0, *means, 0.0), max(means, default=1.0)
    step = nice_step(max(high - low, 1e-9) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(step * i for i in range(first, max(last, first + 1) + 1))
    digits = max(0, -math.floor(math.log10(step)))
    return Axis(label, ticks, lambda v: f"{v:.{digits}f}".replace("-", "−"), _number)


def _number(mean: float, half_width: float | None) -> str:
    width = "" if half_width is None else f" ± {half_width:.3g}"
    return f"{mean:.3g}{width}".replace("-", "−")


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... and of their tenths that is no smaller."""
    unit = 10.0 ** math.floor(math.log10(least))
    return next(unit * f for f in (1, 2, 5, 10) if unit * f >= least * (1 - 1e-9))


def x_ticks(low: int, high: int, room: float) -> list[int]:
    """Whole numbers between ``low`` and ``high`` whose labels have ``room`` pixels in all."""
    most = max(2, int(room / (TICK_LETTERS * LETTER * max(2, len(str(high))))))
    step = max(1, int(nice_step(max(high - low, 1) / most)))
    first = low if step == 1 else math.ceil(low / step) * step
    return list(range(first, high + 1, step)) or [low]


def line_chart(
    series: Sequence[Series],
    *,
    steps: int,
    title: str,
    x_label: str,
    axis: Axis | None = None,
    first: int = 1,
) -> str:
    """Points over positions ``first`` .. ``steps``; shaded bands show mean ± half width.

    axis: upright; None: percent. A single point stands for itself. The legend is in the order of
    the last values, the highest first.
    """
    drawn = [s for s in series if any(math.isfinite(p.mean) for p in s.points)]
    axis = axis or percent_axis("%")
    charts = [
        f'<div class="{size}">{_chart(drawn, size, (first, steps), title, x_label, axis)}</div>'
        for size in SIZES
    ]
    return "".join(charts) + legend(drawn, axis)


def legend(series: Sequence[Series], axis: Axis) -> str:
    """A mark and the whole name of each, and what it came to at last."""
    order = sorted(series, key=lambda s: -_last(s).mean)
    keys = []
    for s in order:
        last = _last(s)
        keys.append(
            f"<li>{_swatch(s.style)}<span>{escape(s.label)} "
            f'<span class="soft">{escape(axis.point(last.mean, None))}</span></span></li>'
        )
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _swatch(style: int) -> str:
    line = f'<path class="line s{style % COLOURS}" stroke-dasharray="{_dash(style)}" d="M0 8H36"/>'
    return (
        f'<svg class="swatch" aria-hidden="true" viewBox="0 0 36 16">{line}'
        f"{marker(style, 18, 8)}</svg>"
    )


def _dash(style: int) -> str:
    return DASHES[style // COLOURS % len(DASHES)] or "none"


def _chart(
    drawn: Sequence[Series],
    size: str,
    span: tuple[int, int],
    title: str,
    x_label: str,
    axis: Axis,
) -> str:
    width, height = SIZES[size]
    left = 26 + LETTER * max(len(axis.show(tick)) for tick in axis.ticks)
    low, high = axis.ticks[0], axis.ticks[-1]
    first, last = span

    def at(x: float, value: float) -> tuple[float, float]:
        across = 0.5 if first == last else (x - first) / (last - first)
        clipped = min(max(value, low), high)
        up = (clipped - low) / (high - low)
        return left + 8 + across * (width - left - RIGHT - 16), (
            TOP + (1 - up) * (height - TOP - BOTTOM)
        )

    parts = [open_svg(width, height, title, describe(drawn, axis.point))]
    for tick in axis.ticks:
        y = at(first, tick)[1]
        parts.append(f'<path class="axis" d="M{left:.1f} {y:.1f}H{width - RIGHT}"/>')
        parts.append(svg_text(left - 5, y + 4, axis.show(tick), "end"))
    for x in x_ticks(first, last, width - left - RIGHT):
        parts.append(svg_text(at(x, low)[0], height - BOTTOM + 17, str(x), "middle"))
    parts.append(svg_text((left + width - RIGHT) / 2, height - 6, x_label, "middle"))
    middle = TOP + (height - TOP - BOTTOM) / 2
    parts.append(
        f'<text transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(axis.label)}</text>"
    )
    parts += [_band(s, at) for s in drawn]
    parts += [_line(s, at, axis.point) for s in drawn]
    return "".join([*parts, "</svg>"])


def describe(series: Sequence[Series], show: Show) -> str:
    """All numbers of a chart in words, for those who cannot see it."""
    return " ".join(
        f"{s.label}: "
        + ", ".join(
            f"{p.x}: {show(p.mean, p.half_width)}" for p in s.points if math.isfinite(p.mean)
        )
        + "."
        for s in series
    )


def _last(series: Series) -> Point:
    return [p for p in series.points if math.isfinite(p.mean)][-1]


def _band(series: Series, at: At) -> str:
    upper, lower = [], []
    for x, mean, half_width in series.points:
        if half_width is not None and math.isfinite(mean):
            upper.append(at(x, mean + half_width))
            lower.append(at(x, mean - half_width))
    if len(upper) == 1:  # a whisker, as one point has no area
        d = f"M{upper[0][0]:.1f} {upper[0][1]:.1f}V{lower[0][1]:.1f}"
        return f'<path class="line s{series.style % COLOURS}" d="{d}"/>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    band = f'<polygon class="band s{series.style % COLOURS}" points="{points}"/>'
    return band if upper else ""


def _line(series: Series, at: At, show: Show) -> str:
    path, pen, marks = "", "M", []
    every = math.ceil(len(series.points) / MOST_PRINTED)
    for place, point in enumerate(series.points):
        if not math.isfinite(point.mean):
            pen = "M"
            continue
        x, y = at(point.x, point.mean)
        path += f"{pen}{x:.1f} {y:.1f}"
        pen = "L"
        if place % every == 0:
            tip = f"{series.label}, {point.x}: {show(point.mean, point.half_width)}"
            marks.append(marker(series.style, x, y, tip))
    style = f"line s{series.style % COLOURS}"
    return f'<path class="{style}" stroke-dasharray="{_dash(series.style)}" d="{path}"/>' + (
        "".join(marks)
    )
