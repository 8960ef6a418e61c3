from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continual.online_metrics import (
    AnytimePoint,
    AurocPoint,
    a_auc,
    a_auc_trapezoid,
    f_last,
    online_summary,
    periodic_counts,
)


def point(count: int, *pairs: tuple[int, int]) -> AnytimePoint:
    return AnytimePoint(count, [p[0] for p in pairs], [p[1] for p in pairs])


def test_overall_and_balanced_accuracy() -> None:
    p = point(10, (8, 10), (0, 90), (0, 0))
    assert p.overall == 0.08
    assert p.balanced == pytest.approx(0.4)
    assert point(1, (0, 0)).overall is None
    assert point(1, (0, 0)).balanced is None


def test_published_number_of_points() -> None:
    assert len(periodic_counts(50_000, 1000)) == 49
    assert len(periodic_counts(100_000, 1000)) == 99
    assert periodic_counts(10, 10) == []
    with pytest.raises(ValueError, match="period=0"):
        periodic_counts(10, 0)


def test_a_hand_made_curve() -> None:
    periodic = [point(4, (1, 2), (0, 0)), point(8, (2, 2), (0, 2))]
    end, tasks = point(10, (1, 2), (2, 2)), [point(6, (2, 2), (1, 2)), point(10, (1, 2), (2, 2))]
    found = online_summary(periodic, end, tasks)
    assert found["a_auc"] == 0.5
    assert found["a_auc_trapezoid"] == pytest.approx((4 * 0.5 + 2 * 0.625) / 6)
    assert found["a_avg"] == found["a_last"] == 0.75
    assert found["f_last"] == pytest.approx((0.5 + -0.5) / 2)


def test_classes_met_last_or_never_known_are_not_forgotten() -> None:
    tasks = [point(5, (4, 4), (0, 4), (0, 0)), point(9, (1, 4), (0, 4), (4, 4))]
    assert f_last(tasks) == 0.75
    assert f_last([point(5, (0, 4), (0, 0)), point(9, (0, 4), (1, 4))]) is None
    assert f_last(tasks[:1]) is None


def test_no_periodic_point_is_no_error() -> None:
    found = online_summary([], point(3, (1, 2)), [point(3, (1, 2))])
    assert found["a_auc"] is None
    assert found["a_auc_trapezoid"] is None
    assert found["f_last"] is None
    assert found["a_last"] == 0.5
    with pytest.raises(ValueError, match="no evaluation after a task"):
        online_summary([], None, [])


def test_aurocs_are_averaged_where_they_are_defined() -> None:
    tasks = [AurocPoint(3, [0.75, None, None]), AurocPoint(6, [0.5, 1.0, None])]
    found = online_summary([tasks[0]], tasks[1], tasks)
    assert found["a_auc"] == 0.75
    assert found["a_last"] == 0.75
    assert found["f_last"] == 0.25
    assert "a_auc_balanced" not in found
    nothing = AurocPoint(1, [None] * 3)
    assert online_summary([nothing], None, tasks)["a_auc"] is None
    with pytest.raises(ValueError, match="differ in kind"):
        online_summary([point(1, (1, 2))], None, tasks)
    with pytest.raises(ValueError, match="impossible AUROCs"):
        AurocPoint(1, [1.5])


def test_impossible_counts() -> None:
    with pytest.raises(ValueError, match="impossible"):
        point(1, (3, 2))
    with pytest.raises(ValueError, match="impossible"):
        point(-1, (1, 2))
    with pytest.raises(ValueError, match="decrease"):
        a_auc_trapezoid([point(2, (1, 2)), point(1, (1, 2))])


pairs = st.lists(
    st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=3,
    max_size=3,
)


@given(st.lists(st.tuples(st.integers(0, 5), pairs), min_size=2, max_size=8))
def test_against_plain_python(rows) -> None:
    count, points = 0, []
    for step, counts in rows:
        count += step
        points.append(point(count, *counts))
    overall = [sum(c for c, _ in pairs) / sum(n for _, n in pairs) for _, pairs in rows]
    balanced = [sum(c / n for c, n in pairs) / 3 for _, pairs in rows]
    assert a_auc(points) == pytest.approx(sum(overall) / len(overall))
    assert a_auc(points, balanced=True) == pytest.approx(sum(balanced) / len(balanced))
    area = 0.0
    for i in range(1, len(points)):
        area += (points[i].count - points[i - 1].count) * (overall[i] + overall[i - 1]) / 2
    span = points[-1].count - points[0].count
    found = a_auc_trapezoid(points)
    assert (found is None) if span == 0 else found == pytest.approx(area / span)
    lost = []
    for j in range(3):
        best = max(p[1][j][0] / p[1][j][1] for p in rows[:-1])
        if best > 0:
            lost.append(best - rows[-1][1][j][0] / rows[-1][1][j][1])
    expected = sum(lost) / len(lost) if lost else None
    assert f_last(points) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4))
def test_a_constant_curve_is_its_own_area(steps: list[int], right: int) -> None:
    points = [point(int(c), (right, 4)) for c in np.cumsum([1, *steps])]
    assert a_auc(points) == pytest.approx(right / 4)
    assert a_auc_trapezoid(points) == pytest.approx(right / 4)
    assert a_auc_trapezoid([*points, points[-1]]) == pytest.approx(right / 4)
    assert math.isclose(f_last(points) or 0.0, 0.0)
