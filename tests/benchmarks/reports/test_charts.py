"""The report's charts: points, bars and labels stand where their numbers say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reports.charts import LINE_GAP, Point, Series, _spread, bar_chart, line_chart


def test_line_chart_places_points_and_labels() -> None:
    flat = Series("flat", [Point(1, 1.0, None), Point(2, 0.0, 0.1)], 0)
    svg = line_chart([flat], steps=2, title="t", x_label="x")
    line = re.search(r'class="line s0" stroke-dasharray="none" d="M([\d.]+) ([\d.]+)L', svg)
    assert line is not None
    top, bottom = float(line[2]), 260 - 42
    assert top == 12.0
    assert f" {bottom}.0" in svg[svg.index('stroke-dasharray="none"') :]
    assert "<desc>flat: 1: 100.0 %, 2: 0.0 ± 10.0 %.</desc>" in svg
    assert svg.count('class="mark s0"') == 3


def test_undefined_points_leave_a_gap() -> None:
    gap = Series("gap", [Point(1, 0.5, None), Point(2, float("nan"), None), Point(3, 1, None)], 1)
    svg = line_chart([gap], steps=3, title="t", x_label="x")
    path = re.search(r'stroke-dasharray="none" d="([^"]*)"', svg)
    assert path is not None
    assert (path[1].count("M"), path[1].count("L")) == (2, 0)
    assert "nan" not in svg


def test_bars_are_proportional_and_hang_below_zero() -> None:
    bars = Series("a", [Point(1, 0.4, None), Point(2, 0.2, None), Point(3, -0.1, None)], 0)
    svg = bar_chart(bars, low=-0.1, high=0.4, title="t", x_label="x")
    found = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg)
    tops, heights = np.array(found, dtype=float).T
    assert heights / heights[2] == pytest.approx([4, 2, 1], rel=0.01)
    assert tops[:2] + heights[:2] == pytest.approx([tops[2]] * 2, abs=0.11)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 300), max_size=20))
def test_spread_labels_never_touch(wanted: list[float]) -> None:
    placed = _spread(wanted, 0, 300)
    gaps = np.diff(sorted(placed))
    assert (gaps >= LINE_GAP - 1e-6).all()
    assert all(-1e-6 <= y <= 300 + 1e-6 for y in placed)
