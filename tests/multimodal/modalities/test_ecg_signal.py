"""The samples of an ECG, from gaps to the front end, against NumPy and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal.batch import Batch
from multimodal.modalities.ecg import EcgConfig
from multimodal.modalities.ecg_signal import band_passed, interpolated, resampled, runs
from tests.multimodal.modalities.ecg_files import load, noise, write


def test_runs_and_interpolation_by_hand() -> None:
    bad = np.array([True, False, True, True, False, True])
    assert runs(bad) == [(0, 1), (2, 4), (5, 6)]
    assert runs(~bad) == [(1, 2), (4, 5)]
    assert runs(np.zeros(3, bool)) == []
    samples = np.array([[np.nan, 1, np.nan, np.nan, 4, np.nan]], dtype=np.float32)
    assert interpolated(samples, bad[None]).tolist() == [[1, 1, 2, 3, 4, 4]]


def bump(rate: int, seconds: float = 10.0) -> np.ndarray:
    """A sum of sines below 20 Hz on an offset, in mV."""
    time = np.arange(round(rate * seconds)) / rate
    waves = [0.5 * np.sin(2 * np.pi * f * time + f) / (1 + f / 4) for f in (1.0, 5.0, 19.0)]
    return 1.5 + np.sum(waves, axis=0)


@pytest.mark.parametrize("rate", [100, 250, 360, 500])
@pytest.mark.parametrize("target", [100, 250, 500])
def test_resampling_keeps_waves_amplitude_and_offset(rate: int, target: int) -> None:
    out = resampled(bump(rate)[None].astype(np.float32), rate, target)
    assert out.shape == (1, 10 * target)
    error = np.abs(out[0] - bump(target))
    assert error[target // 2 : -target // 2].max() < 2e-3
    assert error.max() < 0.3  # no ringing of the size of the offset at the ends


def test_files_are_resampled(tmp_path: Path) -> None:
    digital = np.round(bump(360)[:, None] * 1000)
    signal = load(write(tmp_path, digital, ["II"], rate=360), EcgConfig(sample_rate=100))
    assert signal.shape == (12, 1000)
    assert np.abs(signal[1].numpy() - bump(100))[50:-50].max() < 3e-3


def test_band_pass_equals_its_closed_form() -> None:
    # Forwards and backwards: the gain is |H|^2 of an analogue-prototype Butterworth at the
    # pre-warped frequency, the phase is zero.
    rate, low, high = 250, 1.0, 40.0
    time = np.arange(40 * rate) / rate

    def warp(f: float) -> float:
        return float(np.tan(np.pi * f / rate))

    for f in (0.3, 1.0, 7.0, 40.0, 80.0):
        out = band_passed(np.cos(2 * np.pi * f * time)[None].astype(np.float32), (low, high), rate)
        w, a, b = warp(f), warp(low), warp(high)
        gain = 1 / (1 + ((w * w - a * b) / (w * (b - a))) ** 4)
        middle = slice(15 * rate, 25 * rate)
        np.testing.assert_allclose(
            out[0, middle], gain * np.cos(2 * np.pi * f * time)[middle], atol=2e-3
        )


def test_filter_works_on_the_whole_record_before_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path, noise(2000, 2), ["II", "V1"])
    config = EcgConfig(band_pass=(0.5, 40.0))
    whole = load(path, config)
    part = load(path, config, start=2.0, duration=0.5)
    np.testing.assert_array_equal(part.numpy(), whole[:, 500:625].numpy())
    assert load(write(tmp_path, noise(3, 1), ["I"], name="tiny"), config).shape == (12, 3)


def batch_of(signals: list[torch.Tensor], extra: int = 0) -> Batch:
    lengths = torch.tensor([s.shape[1] for s in signals])
    inputs = torch.zeros(len(signals), 12, int(lengths.max()) + extra)
    for row, signal in zip(inputs, signals, strict=True):
        row[:, : signal.shape[1]] = signal
    index = torch.arange(len(signals))
    return Batch(inputs, lengths, torch.zeros_like(index), index)


def test_front_end_keeps_amplitudes_and_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    signals = [torch.randn(12, n, generator=generator) + 3 for n in (40, 25)]
    signals[0][[0, 7]] = 0
    front_end = EcgConfig(lead_mask=True, scale_mv=0.5).build().front_end()
    assert not list(front_end.parameters())
    values, lengths = front_end(batch_of(signals))
    assert values.shape == (2, 24, 40)
    assert lengths.tolist() == [40, 25]
    for row, signal in zip(values, signals, strict=True):
        x = signal.numpy().astype(np.float64)
        expected = (x - x.mean(1, keepdims=True)) / 0.5
        np.testing.assert_allclose(row[:12, : x.shape[1]].numpy(), expected, atol=1e-5)
        assert not row[:, x.shape[1] :].any()
    assert values[0, 12:].amax(1).tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert values[1, 12:, :25].eq(1).all()
    padded = front_end(batch_of(signals, extra=9)).values
    torch.testing.assert_close(padded[..., :40], values)
    # Twice the amplitude is twice the feature, and an offset stays without ``centre``.
    double = front_end(batch_of([2 * s for s in signals])).values
    torch.testing.assert_close(double[:, :12], 2 * values[:, :12], atol=1e-5, rtol=1e-5)
    raw = EcgConfig(centre=False, scale_mv=1.0).build().front_end()(batch_of(signals)).values
    assert raw.equal(batch_of(signals).inputs)
