"""How loud a sound is: the A-weighted level of composed scenes, and the active level of speech."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

FLOOR_DB = -80.0
ACTIVE_DB = 30.0  # below the loudest frame of 10 ms, and still active
Level = Callable[[np.ndarray, int], float]


def a_weighted_level(signal: np.ndarray, rate: int) -> float:
    """dB of the loudest frame, A-weighted, of (T,) samples at ``rate`` Hz; at least -80.

    As in between-class mixing (Tokozume et al., ICLR 2018, arXiv 1711.10282) and CompA's generator:
    10 log10 of the sum over bins of |X|^2 10^(A/10), periodic Hann windows half a frame apart, no
    padding. A frame is the power of two nearest to 0.11 s (2,048 at 16 kHz, 4,096 at 44.1 kHz); a
    shorter sound is one frame, zeros after it (ours).
    """
    size = frame_size(rate)
    if len(signal) < size:
        signal = np.pad(signal, (0, size - len(signal)))
    frames = sliding_window_view(signal, size)[:: size // 2]
    spectra = np.abs(np.fft.rfft(frames * _window(size), axis=1)) ** 2
    power = spectra @ 10 ** (a_weights(rate, size) / 10)
    return float(10 * np.log10(max(power.max(), 10 ** (FLOOR_DB / 10))))


def active_level(signal: np.ndarray, rate: int) -> float:
    """dB of the mean power over frames of 10 ms that are active; (T,) samples at ``rate`` Hz."""
    powers = frame_powers(signal, max(1, rate // 100))
    loud = powers[powers >= powers.max() * 10 ** (-ACTIVE_DB / 10)]
    return float(10 * np.log10(max(loud.mean(), 10 ** (FLOOR_DB / 10))))


def frame_powers(signal: np.ndarray, size: int) -> np.ndarray:
    """(ceil(T / size),) float64 mean powers; the last frame's over the samples it has."""
    starts = np.arange(0, len(signal), size)
    sums = np.add.reduceat(signal.astype(np.float64) ** 2, starts)
    return sums / np.minimum(size, len(signal) - starts)


def frame_size(rate: int) -> int:
    return 2 ** round(np.log2(rate * 0.11))


@cache
def _window(size: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


@cache
def a_weights(rate: int, size: int) -> np.ndarray:
    """(size / 2 + 1,) dB of each bin, at least -80; the square of frequency is 1 at 0 Hz."""
    squares = np.linspace(0, rate / 2, size // 2 + 1) ** 2
    squares[0] = 1.0
    weights = 2.0 + 20 * (
        2 * np.log10(12194)
        + 2 * np.log10(squares)
        - np.log10(squares + 12194**2)
        - np.log10(squares + 20.6**2)
        - 0.5 * np.log10(squares + 107.7**2)
        - 0.5 * np.log10(squares + 737.9**2)
    )
    return np.maximum(weights, FLOOR_DB)
