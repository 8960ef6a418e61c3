"""Multi-label metrics against their definitions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from multimodal.evaluation.multi_label import (
    auroc,
    average_precision,
    macro,
    resampled_average_precision,
)

SCORES = st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0])
CELLS = st.sampled_from([0.0, 1.0, np.nan])


def pairs(score: np.ndarray, target: np.ndarray) -> float:
    """AUROC by its definition: over all pairs of a positive and a negative."""
    wins = [(p > q) + 0.5 * (p == q) for p in score[target == 1] for q in score[target == 0]]
    return float(np.mean(wins)) if wins else np.nan


@settings(max_examples=80, deadline=None)
@given(arrays(np.float64, (12, 3), elements=SCORES), arrays(np.float64, (12, 3), elements=CELLS))
def test_auroc_and_average_precision_are_the_peers(scores, targets) -> None:
    areas, precisions = auroc(scores, targets), average_precision(scores, targets)
    for c in range(3):
        known = ~np.isnan(targets[:, c])
        score, target = scores[known, c], targets[known, c]
        np.testing.assert_allclose(areas[c], pairs(score, target), atol=1e-12)
        if 0 < target.sum() < len(target):
            finite = np.maximum(score, -9)  # scikit-learn takes no infinity
            np.testing.assert_allclose(areas[c], roc_auc_score(target, finite), atol=1e-12)
            peer = average_precision_score(target, finite)
            np.testing.assert_allclose(precisions[c], peer, atol=1e-12)
        else:
            assert np.isnan(areas[c])
            assert np.isnan(precisions[c])


def test_macro_leaves_undefined_classes_out() -> None:
    assert macro([0.5, np.nan, 1.0]) == 0.75
    assert macro([np.nan]) is None


def test_bad_scores_and_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auroc([[np.nan]], [[1.0]])
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        auroc([[0.0, 1.0]], [[1.0]])
    with pytest.raises(ValueError, match="0, 1 or NaN"):
        average_precision([[0.0]], [[0.5]])


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (9, 2), elements=st.sampled_from([-1.0, 0.0, 0.5])),
    arrays(np.float64, (9, 2), elements=st.sampled_from([0.0, 1.0, np.nan])),
    arrays(np.int64, (3, 9), elements=st.integers(0, 3)),
)
def test_counts_are_repetitions(scores, targets, counts) -> None:
    found = resampled_average_precision(scores, targets, counts)
    for sample, row in zip(counts, found, strict=True):
        rows = np.repeat(np.arange(9), sample)
        for c in range(2):
            known = rows[~np.isnan(targets[rows, c])]
            target = targets[known, c]
            if 0 < target.sum() < len(target):
                expected = average_precision_score(target, scores[known, c])
                np.testing.assert_allclose(row[c], expected)
            else:
                assert np.isnan(row[c])
    once = resampled_average_precision(scores, targets, np.ones((1, 9), dtype=np.int64))
    np.testing.assert_array_equal(average_precision(scores, targets), once[0])
