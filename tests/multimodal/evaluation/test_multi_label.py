"""Average precision of samples with repetitions; the rest is tested where streams use it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from multimodal.evaluation.multi_label import average_precision, resampled_average_precision


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
