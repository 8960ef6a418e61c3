"""The report's bar charts: bars and labels stand where their numbers say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reports.charts import Point, Series, bar_chart
from tests.benchmarks.reports.svg_words import touching


def test_bars_are_proportional_and_hang_below_zero() -> None:
    bars = Series("a", [Point(1, 0.4, None), Point(2, 0.2, None), Point(3, -0.1, None)], 0)
    svg = bar_chart(bars, low=-0.1, high=0.4, title="t", x_label="x")
    found = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg)
    tops, heights = np.array(found, dtype=float).T
    assert heights / heights[2] == pytest.approx([4, 2, 1], rel=0.01)
    assert tops[:2] + heights[:2] == pytest.approx([tops[2]] * 2, abs=0.11)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-0.9, 1), min_size=1, max_size=40))
def test_no_number_of_a_bar_chart_stands_in_another(values: list[float]) -> None:
    """Boxes of all words, of 6.6 pixels a letter and 10 a line, in pairs."""
    points = [Point(i + 1, v, None) for i, v in enumerate(values)]
    low, high = min(0.0, np.floor(10 * min(values)) / 10), max(0.1, np.ceil(10 * max(values)) / 10)
    svg = bar_chart(Series("a", points, 0), low=low, high=high, title="t", x_label="experience")
    assert not touching(svg)
