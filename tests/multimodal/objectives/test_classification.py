from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn.functional import cross_entropy

from multimodal.objectives.classification import classification_loss, masked_binary_loss

INF = float("inf")


def oracle(
    logits: np.ndarray, targets: np.ndarray, exposed: np.ndarray
) -> tuple[float, np.ndarray]:
    """Cell by cell: the loss and its gradient, sigmoid(x) - y over the number of cells."""
    total, count, gradient = 0.0, 0, np.zeros_like(logits)
    for (n, c), x in np.ndenumerate(logits):
        if not exposed[c] or np.isnan(targets[n, c]):
            continue
        p = 1 / (1 + np.exp(-x))
        total -= targets[n, c] * np.log(p) + (1 - targets[n, c]) * np.log(1 - p)
        gradient[n, c] = p - targets[n, c]
        count += 1
    return total / max(count, 1), gradient / max(count, 1)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, (4, 3), elements=st.floats(-6, 6)),
    arrays(np.float64, (4, 3), elements=st.sampled_from([0.0, 1.0, np.nan])),
    arrays(np.bool_, 3),
)
def test_value_and_gradient_are_the_oracles(logits, targets, exposed) -> None:
    x = torch.tensor(logits, requires_grad=True)
    value = masked_binary_loss(x, torch.tensor(targets), torch.tensor(exposed))
    value.backward()
    assert x.grad is not None
    expected, gradient = oracle(logits, targets, exposed)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x.grad, gradient, rtol=1e-9, atol=1e-12)


def test_infinite_logits_of_classes_to_come_give_no_nan() -> None:
    x = torch.tensor([[0.5, -INF], [1.0, -INF]], requires_grad=True)
    exposed = torch.tensor([True, False])
    value = masked_binary_loss(x, torch.tensor([[1.0, 1.0], [0.0, float("nan")]]), exposed)
    value.backward()
    assert value.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[:, 1] == 0).all()


def test_nothing_known_is_a_loss_of_zero() -> None:
    x = torch.zeros(2, 2, requires_grad=True)
    value = masked_binary_loss(x, torch.full((2, 2), float("nan")), torch.tensor([True, True]))
    value.backward()
    assert value.item() == 0.0
    assert x.grad is not None
    assert (x.grad == 0).all()


def test_single_labels_are_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    exposed = torch.ones(3, dtype=torch.bool)
    assert classification_loss(logits, labels, exposed) == cross_entropy(logits, labels)
