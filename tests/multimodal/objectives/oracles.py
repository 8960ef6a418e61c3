"""Losses and gradients in plain NumPy, to compare with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def softmax_oracle(x: np.ndarray, targets: np.ndarray, allowed: np.ndarray) -> tuple:
    """Row by row: mean cross-entropy over the rows with targets, and d mean / d x."""
    rows = [i for i in range(len(x)) if targets[i].any()]
    value, gradient = 0.0, np.zeros_like(x)
    for i in rows:
        t = targets[i] / targets[i].sum()
        e = np.where(allowed[i], np.exp(x[i] - x[i].max()), 0.0)
        p = e / e.sum()
        value -= sum(t[j] * np.log(p[j]) for j in range(len(t)) if t[j]) / len(rows)
        gradient[i] = (p - t) / len(rows)
    return value, gradient


def numpy_unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def gradients(a: np.ndarray, b: np.ndarray, s: float, g: np.ndarray) -> tuple:
    """d value / d a, b, s from d value / d logits, logits = s <a_i/|a_i|, b_j/|b_j|> + bias."""
    u, v = numpy_unit(a), numpy_unit(b)

    def through_length(raw: np.ndarray, unit: np.ndarray, grad: np.ndarray) -> np.ndarray:
        tangent = grad - unit * (grad * unit).sum(1, keepdims=True)
        return tangent / np.linalg.norm(raw, axis=1, keepdims=True)

    of_a, of_b = through_length(a, u, s * g @ v), through_length(b, v, s * g.T @ u)
    return of_a, of_b, (g * (u @ v.T)).sum()


def leaf(x: object) -> Tensor:
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)
