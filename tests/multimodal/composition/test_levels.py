from __future__ import annotations

import librosa
import numpy as np
import pytest

from multimodal.composition.levels import (
    a_weighted_level,
    a_weights,
    active_level,
    frame_powers,
    frame_size,
)


def tone(frequency: float, seconds: float = 1.0, rate: int = 16_000, level: float = 0.1):
    return level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def test_weights_are_the_standards() -> None:
    frequencies = np.linspace(0, 8000, 1025)[1:]
    expected = librosa.A_weighting(frequencies, min_db=-80)
    np.testing.assert_allclose(a_weights(16_000, 2048)[1:], expected, atol=0.01)
    assert a_weights(16_000, 2048)[0] == -80


@pytest.mark.parametrize(("rate", "size"), [(16_000, 2048), (44_100, 4096), (48_000, 4096)])
def test_frames(rate: int, size: int) -> None:
    assert frame_size(rate) == size


def test_level_is_a_loop_over_frames() -> None:
    x = np.random.default_rng(0).normal(size=9000)
    x[3500:4600] *= 10  # within the fourth frame alone
    window = [np.sin(np.pi * i / 2048) ** 2 for i in range(2048)]
    levels, weights = [], 10 ** (a_weights(16_000, 2048) / 10)
    for start in range(0, 9000 - 2048 + 1, 1024):
        bins = np.fft.fft(x[start : start + 2048] * window)[:1025]
        levels.append(10 * np.log10(np.sum(np.abs(bins) ** 2 * weights)))
    assert a_weighted_level(x, 16_000) == pytest.approx(max(levels), abs=1e-9)


def test_levels_follow_amplitude_and_the_ear() -> None:
    loud = a_weighted_level(tone(1000), 16_000)
    assert a_weighted_level(tone(1000, level=0.05), 16_000) == pytest.approx(loud - 6.02, abs=0.01)
    assert a_weighted_level(tone(100), 16_000) == pytest.approx(loud - 19.1, abs=0.5)
    assert a_weighted_level(np.zeros(5000), 16_000) == -80
    assert np.isfinite(a_weighted_level(tone(1000, 0.01), 16_000))


def test_pauses_do_not_count_in_the_active_level() -> None:
    speech, pause = tone(200, 0.5), np.zeros(16_000)
    broken = np.concatenate([speech, pause, speech, pause])
    assert active_level(broken, 16_000) == pytest.approx(active_level(speech, 16_000), abs=1e-6)
    assert active_level(speech, 16_000) == pytest.approx(10 * np.log10(0.005), abs=0.01)


def test_powers_of_frames_and_of_a_rest() -> None:
    assert frame_powers(np.array([1.0, 1, 2, 2, 3]), 2).tolist() == [1, 4, 9]
