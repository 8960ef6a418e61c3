"""Small inline charts for the report: SVG line and bar charts, and tables shaded as heat maps.

Every function returns HTML text with all names escaped. Colours come from the page's style sheet
(classes ``s0`` .. ``s6``, variables ``--ink`` and so on); markers, dashes, labels and printed
numbers carry the same information, so that nothing hangs on colour alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.reports.numbers import percent

COLOURS = 7
MARKERS = (
    "M0-4.5A4.5 4.5 0 1 1 0 4.5A4.5 4.5 0 1 1 0-4.5Z",
    "M-4-4H4V4H-4Z",
    "M0-5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0-5L5 4H-5Z",
    "M0 5L5-4H-5Z",
)
DASHES = ("", "7 3", "2 3")
# In units that are pixels on a narrow phone, so that text stays readable there.
WIDTH, BAR_WIDTH = 360, 320
LETTER = 6.6  # mean width of a letter at font size 12, in pixels
LABEL_LETTERS = 17
LINE_GAP = 15
MOST_PRINTED = 12


class Point(NamedTuple):
    """x: position from 1. mean: fraction, NaN where undefined. half_width: fraction or None."""

    x: int
    mean: float
    half_width: float | None


class Series(NamedTuple):
    """A labelled row of points; ``style`` picks colour, marker and dash, one for each learner."""

    label: str
    points: list[Point]
    style: int


def escape(value: object) -> str:
    """Text that is safe between tags and inside quoted attributes."""
    return html.escape(str(value), quote=True)


def point_text(mean: float, half_width: float | None) -> str:
    """E.g. "61.3 ± 2.1 %"."""
    return percent(mean) + ("" if half_width is None else f" ± {percent(half_width)}") + " %"


def line_chart(series: Sequence[Series], *, steps: int, title: str, x_label: str) -> str:
    """Fractions in [0, 1] over positions 1 .. ``steps``, labelled at the right ends.

    Shaded bands show mean ± half width. A single point stands for itself.
    """
    drawn = [s for s in series if any(math.isfinite(p.mean) for p in s.points)]
    longest = max((len(_short(s.label)) for s in drawn), default=0)
    left, top, bottom, right = 34, 12, 42, 30 + LETTER * longest
    height = max(260, LINE_GAP * len(drawn) + top + bottom)

    def at(x: float, fraction: float) -> tuple[float, float]:
        across = 0.5 if steps == 1 else (x - 1) / (steps - 1)
        clipped = min(max(fraction, 0.0), 1.0)
        return left + 8 + across * (WIDTH - left - right - 16), (
            top + (1 - clipped) * (height - top - bottom)
        )

    parts = [open_svg(WIDTH, height, title, _describe(drawn))]
    for tick in (0, 25, 50, 75, 100):
        y = at(1, tick / 100)[1]
        parts.append(f'<path class="axis" d="M{left} {y:.1f}H{WIDTH - right:.1f}"/>')
        parts.append(_text(left - 5, y + 4, str(tick), "end"))
    every = math.ceil(steps / MOST_PRINTED)
    for x in range(1, steps + 1, every):
        parts.append(_text(at(x, 0)[0], height - bottom + 17, str(x), "middle"))
    parts.append(_text((left + WIDTH - right) / 2, height - 6, x_label, "middle"))
    parts += [_band(s, at) for s in drawn]
    parts += [_line(s, at) for s in drawn]
    ends = [at(*_last(s)) for s in drawn]
    heights = _spread([y for _, y in ends], top, height - bottom)
    for s, (x, y), label_y in zip(drawn, ends, heights, strict=True):
        label_x = WIDTH - right + 12
        parts.append(f'<path class="leader" d="M{x:.1f} {y:.1f}L{label_x - 7:.1f} {label_y:.1f}"/>')
        parts.append(marker(s.style, label_x, label_y))
        parts.append(_text(label_x + 9, label_y + 4, _short(s.label), "start", s.label))
    return "".join([*parts, "</svg>"])


def bar_chart(series: Series, *, low: float, high: float, title: str, x_label: str) -> str:
    """Upright bars of fractions on the axis ``low`` <= 0 < ``high``, shared between charts."""
    left, right, top, bottom, height = 34, 8, 18, 36, 150
    plot = height - top - bottom

    def at(fraction: float) -> float:
        return top + (high - fraction) / (high - low) * plot

    parts = [open_svg(BAR_WIDTH, height, title, _describe([series]))]
    slot = (BAR_WIDTH - left - right) / max(len(series.points), 1)
    for tick in {low, 0.0, high}:
        parts.append(f'<path class="axis" d="M{left} {at(tick):.1f}H{BAR_WIDTH - right}"/>')
        parts.append(_text(left - 5, at(tick) + 4, f"{100 * tick:.0f}".replace("-", "−"), "end"))
    printed = len(series.points) <= MOST_PRINTED
    for place, point in enumerate(series.points):
        middle = left + (place + 0.5) * slot
        if printed or place % 5 == 0:
            parts.append(_text(middle, height - 20, str(point.x), "middle"))
        if not math.isfinite(point.mean):
            continue
        upper, lower = sorted((at(point.mean), at(0.0)))
        width = min(0.7 * slot, 40.0)
        tip = f"{x_label} {point.x}: {point_text(point.mean, point.half_width)}"
        parts.append(
            f'<rect class="bar s{series.style % COLOURS}" x="{middle - width / 2:.1f}" '
            f'y="{upper:.1f}" width="{width:.1f}" height="{max(lower - upper, 1):.1f}">'
            f"<title>{escape(tip)}</title></rect>"
        )
        if printed:
            y = upper - 4 if point.mean >= 0 else lower + 12
            parts.append(_text(middle, y, percent(point.mean), "middle"))
    parts.append(_text((left + BAR_WIDTH - right) / 2, height - 4, x_label, "middle"))
    return "".join([*parts, "</svg>"])


def heat_table(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    corner: str,
    caption: str,
    digits: int = 1,
    tips: Sequence[Sequence[str]] | None = None,
    upright: bool = False,
) -> str:
    """A table of fractions in [0, 1] in percent, shaded by value; NaN cells are blank.

    values: ``len(rows)`` rows of ``len(columns)``. tips: a tooltip for each cell.
    upright: turn the column heads by 90 degrees, for many long names.
    """
    kind = ' class="upright"' if upright else ""
    heads = "".join(head(name) for name in (corner, *columns))
    body = []
    for r, name in enumerate(rows):
        cells = []
        for c, value in enumerate(values[r]):
            if not math.isfinite(value):
                cells.append("<td></td>")
                continue
            tip = f' title="{escape(tips[r][c])}"' if tips else ""
            shade = f"{100 * min(max(value, 0.0), 1.0):.0f}%"
            cells.append(f'<td class="heat" style="--v:{shade}"{tip}>{100 * value:.{digits}f}</td>')
        body.append(f"<tr>{head(name, scope='row')}{''.join(cells)}</tr>")
    return scroll(
        f"<table{kind}><caption>{escape(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>",
        caption,
    )


def head(name: object, *, scope: str = "col") -> str:
    """A head cell of a column, or of a row (scope "row"); long names break after "_"."""
    words = escape(name).replace("_", "_<wbr>")
    return f'<th scope="{scope}"><span>{words}</span></th>'


def scroll(content: str, label: str) -> str:
    """A box that scrolls sideways by itself, also by keyboard, so that the page never does."""
    name = escape(label)
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{name}">{content}</div>'


def open_svg(width: int, height: float, title: str, description: str) -> str:
    """The beginning of a picture; description: it in words, for those who cannot see it."""
    return (
        f'<svg role="img" viewBox="0 0 {width} {height:.0f}"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>"
    )


def _describe(series: Sequence[Series]) -> str:
    """All numbers of a chart in words, for those who cannot see it."""
    return " ".join(
        f"{s.label}: "
        + ", ".join(
            f"{p.x}: {point_text(p.mean, p.half_width)}" for p in s.points if math.isfinite(p.mean)
        )
        + "."
        for s in series
    )


def _text(x: float, y: float, words: str, anchor: str, tip: str = "") -> str:
    title = f"<title>{escape(tip)}</title>" if tip else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(words)}{title}</text>"


def _short(label: str) -> str:
    return label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1] + "…"


def marker(style: int, x: float, y: float, tip: str = "") -> str:
    """A mark whose colour and shape are those of ``style``."""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    shape = MARKERS[style % len(MARKERS)]
    return (
        f'<path class="mark s{style % COLOURS}" transform="translate({x:.1f} {y:.1f})" '
        f'd="{shape}">{title}</path>'
    )


def _last(series: Series) -> tuple[int, float]:
    point = [p for p in series.points if math.isfinite(p.mean)][-1]
    return point.x, point.mean


def _band(series: Series, at) -> str:
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


def _line(series: Series, at) -> str:
    path, pen, marks = "", "M", []
    every = math.ceil(len(series.points) / MOST_PRINTED)
    for point in series.points:
        if not math.isfinite(point.mean):
            pen = "M"
            continue
        x, y = at(point.x, point.mean)
        path += f"{pen}{x:.1f} {y:.1f}"
        pen = "L"
        if (point.x - series.points[0].x) % every == 0:
            tip = f"{series.label}, {point.x}: {point_text(point.mean, point.half_width)}"
            marks.append(marker(series.style, x, y, tip))
    dash = DASHES[series.style // COLOURS % len(DASHES)]
    style = f"line s{series.style % COLOURS}"
    return f'<path class="{style}" stroke-dasharray="{dash or "none"}" d="{path}"/>' + "".join(
        marks
    )


def _spread(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Heights near the wanted ones, at least LINE_GAP apart, within [low, high] if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed, edge = list(wanted), low - LINE_GAP
    for i in order:
        edge = placed[i] = max(wanted[i], edge + LINE_GAP)
    edge = high + LINE_GAP
    for i in reversed(order):
        edge = placed[i] = min(placed[i], edge - LINE_GAP)
    return placed
