"""Line charts: points stand where their numbers say, words apart, and the legend tells all rows."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reports.charts import Point, Series
from benchmarks.reports.lines import SIZES, line_chart, nice_step, number_axis, x_ticks
from tests.benchmarks.reports.svg_words import outside, touching


def pictures(text: str) -> dict[str, str]:
    """wide, narrow -> its SVG."""
    found = re.findall(r'<div class="(wide|narrow)">(<svg.*?</svg>)</div>', text, re.DOTALL)
    assert [name for name, _ in found] == list(SIZES)
    return dict(found)


def legend(text: str) -> list[str]:
    return re.findall(r"<span>(.*?) <span", text)


def test_points_stand_at_their_values() -> None:
    flat = Series("flat", [Point(1, 1.0, None), Point(2, 0.0, 0.1)], 0)
    text = line_chart([flat], steps=2, title="t", x_label="x")
    for name, svg in pictures(text).items():
        line = re.search(
            r'class="line s0" stroke-dasharray="none" d="M(\S+) (\S+)L(\S+) (\S+)"', svg
        )
        assert line is not None
        left, top, right, bottom = map(float, line.groups())
        assert (top, bottom) == (12.0, SIZES[name][1] - 44.0)
        assert 0 < left < right < SIZES[name][0]
        assert "<desc>flat: 1: 100.0 %, 2: 0.0 ± 10.0 %.</desc>" in svg
        assert svg.count('class="mark s0"') == 2
        assert "rotate(-90)" in svg  # the label of the upright axis
    assert legend(text) == ["flat"]


def test_undefined_points_leave_a_gap() -> None:
    gap = Series("gap", [Point(1, 0.5, None), Point(2, math.nan, None), Point(3, 1, None)], 1)
    for svg in pictures(line_chart([gap], steps=3, title="t", x_label="x")).values():
        path = re.search(r'stroke-dasharray="none" d="([^"]*)"', svg)
        assert path is not None
        assert (path[1].count("M"), path[1].count("L")) == (2, 0)
        assert "nan" not in svg


def test_variants_are_told_apart_in_full() -> None:
    """The whole name, by the last value; 35 rows have marks of their own."""
    names = [f"a learner with a long name (memory_size={i})" for i in range(35)]
    series = [Series(n, [Point(1, i / 40, None)], i) for i, n in enumerate(names)]
    text = line_chart(series, steps=1, title="t", x_label="x")
    assert legend(text) == names[::-1]
    swatches = re.findall(r'<svg class="swatch".*?</svg>', text, re.DOTALL)
    assert len(set(swatches)) == 35


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 50_000), st.lists(st.floats(-1e4, 1e6), min_size=1, max_size=5), st.booleans()
)
def test_no_word_stands_in_another_nor_over_the_edge(
    steps: int, values: list[float], fractions: bool
) -> None:
    points = [Point(max(1, steps * i // len(values)), v, None) for i, v in enumerate(values)]
    series = [Series("a", points, 0)]
    axis = None if fractions else number_axis("loss", series)
    text = line_chart(series, steps=steps, title="t", x_label="optimiser step", axis=axis)
    for svg in pictures(text).values():
        assert not touching(svg)
        assert not outside(svg)


@given(st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=9))
def test_the_axis_of_numbers_holds_all_of_them(values: list[float]) -> None:
    axis = number_axis("loss", [Series("a", [Point(i, v, None) for i, v in enumerate(values)], 0)])
    no_pixel = 1e-6 * (axis.ticks[-1] - axis.ticks[0])
    assert axis.ticks[0] <= min(*values, 0) + no_pixel
    assert axis.ticks[-1] >= max(values) - no_pixel
    assert 2 <= len(axis.ticks) <= 7
    assert len({axis.show(tick) for tick in axis.ticks}) == len(axis.ticks)


@pytest.mark.parametrize(
    ("least", "step"), [(0.9, 1), (1, 1), (1.1, 2), (3, 5), (7, 10), (0.03, 0.05), (1200, 2000)]
)
def test_steps_are_nice(least: float, step: float) -> None:
    assert nice_step(least) == pytest.approx(step)


def test_ticks_are_whole_and_few() -> None:
    assert x_ticks(1, 5, 300) == [1, 2, 3, 4, 5]
    assert x_ticks(1, 1, 300) == [1]
    assert x_ticks(0, 1000, 300) == [0, 200, 400, 600, 800, 1000]
