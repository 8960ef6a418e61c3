"""Small inline charts for the report: SVG bar charts, and tables shaded as heat maps.

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
BAR_WIDTH = 320
LETTER = 6.6  # mean width of a letter at font size 12, in pixels
LINE_GAP = 15
MOST_PRINTED = 12  # marks on a line


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


def bar_chart(series: Series, *, low: float, high: float, title: str, x_label: str) -> str:
    """Upright bars of fractions on the axis ``low`` <= 0 < ``high``, shared between charts."""
    left, right, top, bottom, height = 34, 8, 18, 36, 150
    plot = height - top - bottom

    def at(fraction: float) -> float:
        return top + (high - fraction) / (high - low) * plot

    numbers = ", ".join(
        f"{p.x}: {point_text(p.mean, p.half_width)}" for p in series.points if math.isfinite(p.mean)
    )
    parts = [open_svg(BAR_WIDTH, height, title, f"{series.label}: {numbers}.")]
    slot = (BAR_WIDTH - left - right) / max(len(series.points), 1)
    for tick in {low, 0.0, high}:
        parts.append(f'<path class="axis" d="M{left} {at(tick):.1f}H{BAR_WIDTH - right}"/>')
        if tick == low != 0 and at(low) - at(0.0) < LINE_GAP:
            continue  # the numbers would stand in each other
        parts.append(svg_text(left - 5, at(tick) + 4, f"{100 * tick:.0f}".replace("-", "−"), "end"))
    # Beside each other, "100.0" above bars needs the room of five letters.
    printed = slot >= 5.5 * LETTER
    for place, point in enumerate(series.points):
        middle = left + (place + 0.5) * slot
        if slot >= 3 * LETTER or place % 5 == 0:
            parts.append(svg_text(middle, height - 20, str(point.x), "middle"))
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
            # Of bars that hang, above zero: below them stand the numbers of the axis.
            parts.append(svg_text(middle, upper - 4, percent(point.mean), "middle"))
    parts.append(svg_text((left + BAR_WIDTH - right) / 2, height - 4, x_label, "middle"))
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


def svg_text(x: float, y: float, words: str, anchor: str) -> str:
    """Words at a place; anchor: start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def marker(style: int, x: float, y: float, tip: str = "") -> str:
    """A mark whose colour and shape are those of ``style``."""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    shape = MARKERS[style % len(MARKERS)]
    return (
        f'<path class="mark s{style % COLOURS}" transform="translate({x:.1f} {y:.1f})" '
        f'd="{shape}">{title}</path>'
    )
