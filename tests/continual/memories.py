"""What tests of memories share: offering items, equal states, counts against probabilities."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import chi2

FEATURES = torch.randn(500, 4, generator=torch.Generator().manual_seed(9))


def offer(memory, indices, labels):
    indices = torch.tensor(list(indices), dtype=torch.int64)
    features = FEATURES[indices] if memory.needs_features else None
    memory.update(indices, np.asarray(list(labels), np.int64), features)
    indices.zero_()  # the memory must have copied them


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert isinstance(value, int | torch.Tensor)
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[key])), key


def chi_square_p(observed, probabilities):
    """p value of counts of outcomes against their exact probabilities, none of them tiny."""
    assert observed.keys() <= probabilities.keys(), "an impossible outcome"
    expected = {key: float(p) * observed.total() for key, p in probabilities.items()}
    statistic = sum((observed[k] - e) ** 2 / e for k, e in expected.items())
    return chi2.sf(statistic, len(expected) - 1)
