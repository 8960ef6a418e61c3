"""Log-mel features against librosa and NumPy, and their independence of the batch."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.modalities.log_mel import FLOOR, LogMel

RATE = 16000


def batch_of(signals: list[torch.Tensor], extra: int = 0) -> Batch:
    """Signals (T,) padded to the longest plus ``extra``."""
    inputs = torch.nn.functional.pad(pad_sequence(signals, batch_first=True), (0, extra))
    lengths = torch.tensor([len(s) for s in signals])
    index = torch.arange(len(signals))
    return Batch(inputs[:, None], lengths, torch.zeros_like(index), index)


def signals_of(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scales = [0.3, 0.01, 0.1]
    return [torch.randn(n, generator=generator) * scales[i % 3] for i, n in enumerate(lengths)]


def power_mel(signal: np.ndarray, rate: int, n_mels: int, window: int, hop: int) -> np.ndarray:
    return librosa.feature.melspectrogram(
        y=signal,
        sr=rate,
        n_fft=window,
        hop_length=hop,
        n_mels=n_mels,
        center=True,
        pad_mode="constant",
        power=2.0,
    )


@pytest.mark.parametrize(
    ("rate", "n_mels", "window_ms", "hop_ms"),
    [(16000, 40, 25.0, 10.0), (16000, 80, 32.0, 8.0), (8000, 23, 25.0, 10.0)],
)
def test_equals_librosa(rate: int, n_mels: int, window_ms: float, hop_ms: float) -> None:
    front_end = LogMel(rate, n_mels=n_mels, window_ms=window_ms, hop_ms=hop_ms, normalise="none")
    signal = signals_of([rate])[0]
    window, hop = round(rate * window_ms / 1000), round(rate * hop_ms / 1000)
    expected = power_mel(signal.numpy(), rate, n_mels, window, hop)
    values = front_end(batch_of([signal])).values[0]
    assert values.shape == expected.shape == (n_mels, 1 + rate // hop)
    np.testing.assert_allclose(values.exp().numpy() - FLOOR, expected, rtol=1e-4)


def test_normalisation_against_numpy() -> None:
    signals = signals_of([9000, 4000])
    for row, signal in enumerate(signals):
        log = np.log(power_mel(signal.numpy(), RATE, 40, 400, 160) + FLOOR)
        centred = log - log.mean(axis=1, keepdims=True)
        scaled = centred / np.maximum(log.std(axis=1, keepdims=True), 0.1)
        for normalise, expected in {"none": log, "mean": centred, "mean_variance": scaled}.items():
            values = LogMel(normalise=normalise)(batch_of(signals)).values[row]  # pyright: ignore[reportArgumentType]
            np.testing.assert_allclose(
                values[:, : log.shape[1]].numpy(), expected, rtol=1e-3, atol=1e-4
            )
            assert not values[:, log.shape[1] :].any()


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 8000), min_size=2, max_size=6),
    extra=st.integers(0, 3000),
    normalise=st.sampled_from(["mean", "mean_variance", "none"]),
)
def test_depends_on_its_own_samples_only(lengths: list[int], extra: int, normalise) -> None:
    front_end = LogMel(normalise=normalise)
    signals = signals_of(lengths)
    values, frames = front_end(batch_of(signals, extra))
    assert frames.tolist() == [1 + n // 160 for n in lengths]
    assert values.shape == (len(lengths), 40, 1 + (max(lengths) + extra) // 160)
    for row, signal in enumerate(signals):
        alone = front_end(batch_of([signal])).values[0]
        torch.testing.assert_close(values[row, :, : frames[row]], alone, rtol=0, atol=1e-5)
        assert not values[row, :, frames[row] :].any()


def test_silence_and_single_samples_are_finite() -> None:
    for normalise in ("mean", "mean_variance"):
        front_end = LogMel(normalise=normalise)
        silent = front_end(batch_of([torch.zeros(1600), torch.zeros(1)])).values
        assert silent.abs().max() < 1e-4


def test_a_louder_recording_has_the_same_mean_normalised_features() -> None:
    signal = signals_of([8000])[0]
    quiet, loud = LogMel()(batch_of([signal, 3 * signal])).values
    torch.testing.assert_close(quiet, loud, rtol=0, atol=1e-2)


def test_gradient_flows_and_is_right() -> None:
    front_end = LogMel(1000, n_mels=4, window_ms=32, hop_ms=16).double()
    signal = signals_of([120, 70])
    batch = batch_of([s.double() for s in signal])

    def features(inputs: torch.Tensor) -> torch.Tensor:
        return front_end(Batch(inputs, batch.lengths, batch.labels, batch.indices)).values

    inputs = batch.inputs.clone().requires_grad_()
    assert torch.autograd.gradcheck(features, inputs)
    silence = torch.zeros_like(batch.inputs, requires_grad=True)
    features(silence).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_autocast_does_not_lower_the_precision() -> None:
    batch, front_end = batch_of(signals_of([8000])), LogMel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = front_end(batch).values
    assert lowered.dtype == torch.float32
    torch.testing.assert_close(lowered, front_end(batch).values, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_mels": 300}, r"n_mels=300: \d+ band\(s\) hold no frequency"),
        ({"hop_ms": 0.01}, "under one sample at 16000 Hz"),
        ({"normalise": "max"}, "valid: mean, mean_variance, none"),
    ],
)
def test_refuses(fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LogMel(**fields)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu() -> None:
    batch, front_end = batch_of(signals_of([8000, 5000])), LogMel()
    expected = front_end(batch).values
    values, lengths = front_end.cuda()(batch.to("cuda"))
    assert lengths.is_cuda
    torch.testing.assert_close(values.cpu(), expected, rtol=1e-3, atol=1e-3)
