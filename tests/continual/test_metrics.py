"""Metrics against slow pure-Python oracles, closed forms, Avalanche, scikit-learn and SciPy."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from continual import metrics

STREAM_METRICS = ("forgetting", "backward_transfer", "forward_transfer", "learning_accuracy")
KEYS = ("average_accuracy", "last_accuracy", *STREAM_METRICS)


@st.composite
def streams(draw, min_size=2):
    """(matrix, num_test, baseline): square lists of floats, counts, vector."""
    size = draw(st.integers(min_size, 6))
    fractions = st.floats(0, 1, allow_subnormal=False)
    vector = st.lists(fractions, min_size=size, max_size=size)
    matrix = draw(st.lists(vector, min_size=size, max_size=size))
    num_test = draw(st.lists(st.integers(1, 500), min_size=size, max_size=size))
    return matrix, num_test, draw(vector)


def oracle(matrix, num_test, baseline):
    """The definitions of the papers in loops over exact rational numbers."""
    r = [[Fraction(v) for v in row] for row in matrix]
    b, n, size = [Fraction(v) for v in baseline], num_test, len(matrix)
    averages = []
    for i in range(size):
        right = sum(n[j] * r[i][j] for j in range(i + 1))
        averages.append(right / sum(n[: i + 1]))
    drops, back, forward = [], [], []
    for j in range(size - 1):
        drops.append(max(r[i][j] for i in range(j, size - 1)) - r[size - 1][j])
        back.append(r[size - 1][j] - r[j][j])
        forward.append(r[j][j + 1] - b[j + 1])
    values = [sum(averages) / size, averages[-1]]
    values += [sum(terms) / (size - 1) for terms in (drops, back, forward)]
    return dict(zip(KEYS, [*values, sum(r[j][j] for j in range(size)) / size], strict=True))


@settings(max_examples=100, deadline=None)
@given(streams())
def test_summary_equals_the_definitions(stream):
    matrix, num_test, baseline = stream
    for counts in (num_test, None):
        result = metrics.summary(matrix, counts, baseline)
        expected = oracle(matrix, counts or [1] * len(matrix), baseline)
        assert tuple(result) == KEYS
        for key, value in expected.items():
            assert type(result[key]) is float
            assert result[key] == pytest.approx(float(value), abs=1e-12), key
    assert metrics.forgetting_per_experience(matrix).shape == (len(matrix) - 1,)


def test_worked_example():
    matrix = [[0.9, 0.1, 0.2], [0.95, 0.8, 0.3], [0.6, 0.7, 1.0]]
    assert metrics.forgetting_per_experience(matrix) == pytest.approx([0.35, 0.1])
    assert metrics.forgetting(matrix) == pytest.approx(0.225)
    assert metrics.backward_transfer(matrix) == pytest.approx((-0.3 - 0.1) / 2)
    assert metrics.forward_transfer(matrix, [0.5, 0.2, 0.1]) == pytest.approx((-0.1 + 0.2) / 2)
    assert metrics.learning_accuracy(matrix) == pytest.approx(0.9)
    assert metrics.average_accuracy(matrix) == pytest.approx((0.9 + 0.875 + 2.3 / 3) / 3)
    mean = (0.9 + 0.8375 + 0.87) / 3
    assert metrics.average_accuracy(matrix, [10, 30, 60]) == pytest.approx(mean)
    assert metrics.last_accuracy(matrix, [10, 30, 60]) == pytest.approx(0.87)


def test_zero_shot_accuracy_before_learning_is_not_forgotten():
    matrix = [[1.0, 0.9, 0.0], [1.0, 0.5, 0.0], [1.0, 0.5, 0.0]]
    assert metrics.forgetting_per_experience(matrix).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_matrix(value):
    result = metrics.summary(np.full((4, 4), value), [3, 1, 7, 2], np.full(4, value))
    for key in ("average_accuracy", "last_accuracy", "learning_accuracy"):
        assert result[key] == pytest.approx(value)
    for key in ("forgetting", "backward_transfer", "forward_transfer"):
        assert result[key] == 0.0


def test_perfect_diagonal_and_nothing_else():
    result = metrics.summary(np.eye(5), None, np.zeros(5))
    assert result["learning_accuracy"] == 1.0
    assert result["forgetting"] == 1.0
    assert result["backward_transfer"] == -1.0
    assert result["forward_transfer"] == 0.0
    assert result["last_accuracy"] == pytest.approx(1 / 5)
    assert result["average_accuracy"] == pytest.approx(sum(1 / k for k in range(1, 6)) / 5)
    assert metrics.summary(np.eye(5)) == {**result, "forward_transfer": None}  # no baseline


@pytest.mark.parametrize("row", [[0.5, 0.9, 0.1], [0.7]])
def test_one_row_is_joint_training(row):
    counts = list(range(1, len(row) + 1))
    result = metrics.summary([row], counts, [0.2] * len(row))
    expected = sum(n * v for n, v in zip(counts, row, strict=True)) / sum(counts)
    assert result["average_accuracy"] == result["last_accuracy"] == pytest.approx(expected)
    assert metrics.average_accuracy([row]) == pytest.approx(sum(row) / len(row))
    assert [result[key] for key in STREAM_METRICS] == [None] * 4
    assert metrics.forgetting_per_experience([row]).shape == (0,)


def test_average_is_the_accuracy_over_exposed_items():
    """From predictions: pooled accuracy over all items of the exposed classes."""
    rng = np.random.default_rng(0)
    num_test = [5, 11, 20]
    hits = [[rng.random(n) < 0.6 for n in num_test] for _ in range(3)]
    matrix = [[h.mean() for h in row] for row in hits]
    pooled = [np.concatenate(row[: i + 1]).mean() for i, row in enumerate(hits)]
    assert metrics.average_accuracy(matrix, num_test) == pytest.approx(np.mean(pooled))
    assert metrics.last_accuracy(matrix, num_test) == pytest.approx(pooled[-1])


def test_agrees_with_avalanche():
    """Avalanche's forgetting is measured from the diagonal: it equals ours where the accuracy on
    a learned experience never rises again, and equals -BWT always."""
    from avalanche.evaluation.metrics.forgetting_bwt import BWT, Forgetting
    from avalanche.evaluation.metrics.forward_transfer import ForwardTransfer

    rng = np.random.default_rng(1)
    size = 6
    falling, baseline = rng.random((size, size)), rng.random(size)
    for j in range(size):
        falling[j:, j] = np.sort(falling[j:, j])[::-1]
    for matrix, same_forgetting in ((falling, True), (rng.random((size, size)), False)):
        forgetting, bwt, fwt = Forgetting(), BWT(), ForwardTransfer()
        for j in range(size):
            fwt.update(j, baseline[j], initial=True)
        for i in range(size):
            for metric in (forgetting, bwt):
                metric.update(i, matrix[i, i], initial=True)
                for j in range(i):
                    metric.update(j, matrix[i, j])
            if i + 1 < size:
                fwt.update(i + 1, matrix[i, i + 1])
        theirs = [forgetting.result()[j] for j in range(size - 1)]
        assert np.mean(list(bwt.result().values())) == pytest.approx(
            metrics.backward_transfer(matrix)
        )
        assert np.mean(list(fwt.result().values())) == pytest.approx(
            metrics.forward_transfer(matrix, baseline)
        )
        ours = metrics.forgetting_per_experience(matrix)
        assert np.allclose(theirs, ours) == same_forgetting


BAD_MATRICES = [
    ([0.1, 0.2], r"shape \(2,\)"),
    ([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], r"shape \(3, 2\)"),
    (np.zeros((2, 3)), r"shape \(2, 3\)"),
    (np.zeros((1, 0)), r"shape \(1, 0\)"),
    ([[0.1, 1.01], [0.2, 0.3]], r"contains 1\.01; accuracies are fractions in \[0, 1\]"),
    ([[0.1, -0.2], [0.2, 0.3]], r"contains -0\.2"),
    ([[0.1, math.nan], [0.2, 0.3]], "contains nan"),
]


@pytest.mark.parametrize(("matrix", "words"), BAD_MATRICES)
@pytest.mark.parametrize("name", ["average_accuracy", "forgetting_per_experience", *KEYS[1:]])
def test_bad_matrix(matrix, words, name):
    arguments = [[0.0, 0.0]] if name == "forward_transfer" else []
    with pytest.raises(ValueError, match=f"accuracy matrix .*{words}"):
        getattr(metrics, name)(matrix, *arguments)


def test_bad_vectors():
    matrix = np.eye(3)
    with pytest.raises(ValueError, match=r"num_test has shape \(2,\); expected \(3,\)"):
        metrics.average_accuracy(matrix, [1, 2])
    for counts in ([1, 0, 2], [1, -1, 2], [1, math.nan, 2]):
        with pytest.raises(ValueError, match="num_test must be at least 1"):
            metrics.last_accuracy(matrix, counts)
    with pytest.raises(ValueError, match=r"baseline has shape \(4,\); expected \(3,\)"):
        metrics.forward_transfer(matrix, [0.1] * 4)
    with pytest.raises(ValueError, match=r"baseline contains 10\.0"):
        metrics.forward_transfer(matrix, [0.1, 10, 0.1])


predictions = st.integers(1, 6).flatmap(
    lambda c: st.tuples(
        st.just(c),
        st.lists(st.tuples(st.integers(0, c - 1), st.integers(-1, c - 1)), max_size=60),
        st.randoms(use_true_random=False),
    )
)


@settings(max_examples=100, deadline=None)
@given(predictions)
def test_confusion_matrix_counts_pairs(case):
    num_classes, pairs, random = case
    labels, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    table = metrics.confusion_matrix(labels, predicted, num_classes, no_prediction=True)
    assert table.dtype == np.int64
    assert table.shape == (num_classes, num_classes + 1)
    for true in range(num_classes):
        guesses = [*range(num_classes), -1]
        assert table[true].tolist() == [pairs.count((true, guess)) for guess in guesses]
    recall = metrics.per_class_accuracy(table)
    for true in range(num_classes):
        own = [p == true for t, p in pairs if t == true]
        assert recall[true] == pytest.approx(sum(own) / len(own) if own else math.nan, nan_ok=True)
    random.shuffle(pairs)
    shuffled = [t for t, _ in pairs], [p for _, p in pairs]
    again = metrics.confusion_matrix(*shuffled, num_classes, no_prediction=True)
    cells = metrics.confusion_cells(*shuffled, num_classes, no_prediction=True)
    assert np.array_equal(again, table)
    assert np.array_equal(cells[:, :2], np.argwhere(table))
    assert np.array_equal(cells[:, 2], table[table > 0])
    assert np.array_equal(metrics.recalls(*shuffled, num_classes), recall, equal_nan=True)


def test_confusion_matrix_equals_scikit_learn():
    from sklearn import metrics as peer

    recall: Any = peer.recall_score
    rng = np.random.default_rng(2)
    labels, predicted = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    table = metrics.confusion_matrix(labels, predicted, 7)
    assert table.shape == (7, 7)
    assert np.array_equal(table, peer.confusion_matrix(labels, predicted, labels=range(7)))
    expected = recall(labels, predicted, average=None)
    assert metrics.per_class_accuracy(table) == pytest.approx(expected)
    flawed = np.where(rng.random(500) < 0.2, -1, predicted)
    table = metrics.confusion_matrix(labels, flawed, 7, no_prediction=True)
    expected = recall(labels, flawed, average=None, labels=range(7))
    assert metrics.per_class_accuracy(table) == pytest.approx(expected)
    assert np.trace(table) / table.sum() == pytest.approx((labels == flawed).mean())


def test_confusion_errors():
    with pytest.raises(ValueError, match="contain -1; pass no_prediction=True"):
        metrics.confusion_matrix([0, 1], [0, -1], 2)
    with pytest.raises(ValueError, match=r"predictions contain 2, outside -1\.\.1"):
        metrics.confusion_matrix([0, 1], [0, 2], 2)
    with pytest.raises(ValueError, match=r"predictions contain -2, outside -1\.\.1"):
        metrics.confusion_matrix([0, 1], [0, -2], 2, no_prediction=True)
    with pytest.raises(ValueError, match=r"labels contain -1, outside 0\.\.1"):
        metrics.confusion_matrix([0, -1], [0, 1], 2, no_prediction=True)
    with pytest.raises(ValueError, match="2 labels but 1 predictions"):
        metrics.confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="labels must be a vector of integers"):
        metrics.confusion_matrix([0.0, 1.0], [0, 1], 2)
    with pytest.raises(ValueError, match="predictions must be a vector of integers"):
        metrics.confusion_matrix([0, 1], [[0, 1]], 2)
    for table in (np.zeros((3, 2)), np.zeros((2, 4)), np.zeros(3)):
        with pytest.raises(ValueError, match="confusion has shape"):
            metrics.per_class_accuracy(table)
    with pytest.raises(ValueError, match="negative counts"):
        metrics.per_class_accuracy([[1, -1], [0, 2]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=10), st.floats(0.5, 0.999))
def test_confidence_interval_equals_scipy(thousandths, level):
    values = [v / 1000 for v in {*thousandths, 0, 7}]
    expected = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    mean, half = metrics.confidence_interval(values, level)
    assert half is not None
    assert (mean - half, mean + half) == pytest.approx(expected)


def test_confidence_interval_by_hand():
    # t_{0.975, 2} = 4.302653, s = 0.1, n = 3 (any table of Student's distribution).
    mean, half = metrics.confidence_interval([0.4, 0.5, 0.6])
    assert (mean, half) == pytest.approx((0.5, 4.302653 * 0.1 / math.sqrt(3)), rel=1e-6)
    assert metrics.confidence_interval([0.4]) == (0.4, None)
    assert metrics.confidence_interval([0.5] * 4) == (0.5, 0.0)


def test_confidence_interval_covers():
    """About 90 % of the 90 % intervals over 4 normal values hold the true mean."""
    rng = np.random.default_rng(3)
    hits = 0
    for sample in rng.normal(2.0, 0.5, (2000, 4)):
        mean, half = metrics.confidence_interval(sample, 0.9)
        assert half is not None
        hits += abs(mean - 2.0) <= half
    assert abs(hits / 2000 - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 2000)


def test_confidence_interval_errors():
    bad: Any = ([], [0.1, math.nan], [[0.1]], [math.inf])
    for values in bad:
        with pytest.raises(ValueError, match="non-empty list of finite numbers"):
            metrics.confidence_interval(values)
    for level in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match=f"level is {level}; it must lie between 0 and 1"):
            metrics.confidence_interval([0.1, 0.2], level)
