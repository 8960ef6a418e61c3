"""Gradients by central differences, of functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def by_differences(
    function: Callable[..., float], arrays: list[np.ndarray], step: float = 1e-6
) -> list[np.ndarray]:
    """d function(*arrays) / d each entry of each array, float64."""
    found = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            before, values = array[place], []
            for sign in (1, -1):
                array[place] = before + sign * step
                values.append(function(*arrays))
            array[place] = before
            gradient[place] = (values[0] - values[1]) / (2 * step)
        found.append(gradient)
    return found
