"""Front ends of audio checkpoints against transformers' own extractors, one recording at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from multimodal.batch import Batch, Features
from multimodal.encoders.families.audio_features import (
    FrontEnd,
    KaldiFeatures,
    KaldiSpec,
    WaveformFeatures,
    WaveformSpec,
    WhisperFeatures,
    WhisperSpec,
)
from multimodal.encoders.families.clap import ClapFeatures, ClapSpec, Crop, Padding

CLOSE = {"rtol": 0, "atol": 1e-4}
CLAP_WINDOW = 16000


@cache
def waveform(normalise: bool = True) -> WaveformFeatures:
    return WaveformFeatures(WaveformSpec(16000, normalise))


@cache
def whisper(n_mels: int = 80, seconds: int = 2) -> WhisperFeatures:
    return WhisperFeatures(WhisperSpec(16000, n_mels, 400, 160, seconds))


@cache
def kaldi(n_mels: int = 128, frames: int = 100, normalise: bool = True) -> KaldiFeatures:
    mean, std = (-4.2677393, 4.5689974) if normalise else (None, None)
    return KaldiFeatures(KaldiSpec(16000, n_mels, frames, mean, std))


@cache
def clap(padding: Padding = "repeatpad", crop: Crop = "start") -> ClapFeatures:
    spec = ClapSpec(8000, 16, 256, 80, CLAP_WINDOW, 50, 3500, padding, crop)
    return ClapFeatures(spec)


FRONT_ENDS: dict[str, Callable[[], FrontEnd]] = {
    "waveform": waveform,
    "whisper": whisper,
    "kaldi": kaldi,
    "clap": clap,
    "clap_windows": lambda: clap(crop="windows"),
}


def clip(length: int, seed: int = 0) -> np.ndarray:
    """(T,) a loud tone, whose side bands are quiet, and noise in the second half."""
    time = np.arange(length) / 8000
    noise = np.random.default_rng(seed).normal(0, 0.1, length)
    signal = 0.6 * np.sin(2 * np.pi * (300 + 100 * seed) * time) + noise * (time > time.mean())
    return signal.astype(np.float32)


def batch_of(clips: list[np.ndarray], extra: int = 0) -> Batch:
    """Clips (T,) padded to the longest plus ``extra``."""
    inputs = pad_sequence([torch.from_numpy(c) for c in clips], batch_first=True)
    inputs = torch.nn.functional.pad(inputs, (0, extra))[:, None]
    index = torch.arange(len(clips))
    return Batch(inputs, torch.tensor([len(c) for c in clips]), torch.zeros_like(index), index)


def extracted(extractor: Any, signal: np.ndarray) -> torch.Tensor:
    """What the checkpoint's extractor makes of one recording, without the batch axis."""
    made = extractor(signal, sampling_rate=extractor.sampling_rate, return_tensors="np")
    return torch.from_numpy(made[extractor.model_input_names[0]][0]).float()


@pytest.mark.parametrize("normalise", [True, False])
def test_waveform_equals_its_extractor(normalise: bool) -> None:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalise)
    clips = [clip(n, n) + 0.2 for n in (1, 399, 16000, 24001)] + [np.zeros(500, np.float32)]
    values, lengths = waveform(normalise)(batch_of(clips, extra=50))
    assert lengths.tolist() == [len(c) for c in clips]
    assert values.shape == (5, 1, 24051)
    for row, signal in enumerate(clips):
        torch.testing.assert_close(
            values[row, 0, : len(signal)], extracted(extractor, signal), **CLOSE
        )
        assert not values[row, 0, len(signal) :].any()


@pytest.mark.parametrize("n_mels", [80, 128])
def test_whisper_equals_its_extractor(n_mels: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=n_mels, chunk_length=2)
    lengths = (1, 161, 8000, 31999, 32000, 32001, 50000)
    clips = [clip(n, i) for i, n in enumerate(lengths)]
    values, frames = whisper(n_mels)(batch_of(clips))
    assert values.shape == (7, n_mels, 400)
    assert frames.tolist() == [1, 2, 50, 200, 200, 201, 313]
    for row, signal in enumerate(clips):
        for at in range(0, len(signal), 32000):  # every window of 2 s as if it were alone
            found = values[row, :, at // 160 :][:, :200]
            torch.testing.assert_close(found, extracted(extractor, signal[at:]), **CLOSE)


def test_whisper_transforms_no_more_silence_than_it_must() -> None:
    signal = clip(8000)
    alone = whisper()(batch_of([signal])).values
    torch.testing.assert_close(alone[0], extracted(WhisperFeatureExtractor(chunk_length=2), signal))


@pytest.mark.parametrize(("n_mels", "normalise"), [(128, True), (24, False)])
def test_kaldi_equals_its_extractor(n_mels: int, normalise: bool) -> None:
    extractor = ASTFeatureExtractor(num_mel_bins=n_mels, max_length=100, do_normalize=normalise)
    # 16,240 samples are exactly 100 frames.
    lengths = (400, 559, 560, 8000, 16239, 16240, 30000)
    clips = [clip(n, i) for i, n in enumerate(lengths)] + [np.zeros(4000, np.float32)]
    values, frames = kaldi(n_mels, normalise=normalise)(batch_of(clips))
    assert values.shape == (8, n_mels, 200)
    assert frames.tolist() == [1, 1, 2, 48, 99, 100, 186, 23]
    for row, signal in enumerate(clips):
        for at in range(0, max(len(signal) - 400 + 1, 1), 16000):  # every window of 100 frames
            found = values[row, :, at // 160 :][:, :100]
            torch.testing.assert_close(found.T, extracted(extractor, signal[at:]), **CLOSE)


def test_kaldi_fills_recordings_shorter_than_a_window_with_silence() -> None:
    signal = clip(123)
    values, frames = kaldi()(batch_of([signal]))
    filled = np.pad(signal, (0, 400 - 123))
    assert frames.tolist() == [1]
    torch.testing.assert_close(
        values[0].T, extracted(ASTFeatureExtractor(max_length=100), filled), **CLOSE
    )


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_clap_equals_its_extractor(padding: Padding) -> None:
    extractor = clap_extractor(padding)
    lengths = (1, 7, 3000, 8000, 8001, 15999, 16000)
    clips = [clip(n, i) for i, n in enumerate(lengths)] + [np.zeros(9000, np.float32)]
    values, frames = clap(padding)(batch_of(clips))
    assert values.shape == (8, 16, 201)
    assert frames.tolist() == [201] * 8
    for row, signal in enumerate(clips):
        torch.testing.assert_close(values[row].T, extracted(extractor, signal)[0], **CLOSE)


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize(("crop", "first"), [("start", 0), ("centre", 4500)])
def test_clap_reads_one_fixed_window_of_longer_recordings(
    padding: Padding, crop: Crop, first: int
) -> None:
    signal = clip(25001)
    window = signal[first : first + CLAP_WINDOW]
    values = clap(padding, crop)(batch_of([signal, clip(40000, 1), clip(300, 2)])).values
    expected = extracted(clap_extractor(padding), window)[0]
    torch.testing.assert_close(values[0].T, expected, **CLOSE)


def clap_extractor(padding: Padding) -> ClapFeatureExtractor:
    return ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=8000,
        hop_length=80,
        max_length_s=2,
        fft_window_size=256,
        frequency_min=50,
        frequency_max=3500,
        truncation="rand_trunc",
        padding=padding,
    )


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(list(FRONT_ENDS)),
    lengths=st.lists(st.integers(1, 36000), min_size=2, max_size=4),
    extra=st.integers(0, 3000),
)
def test_depends_on_its_own_samples_only(name: str, lengths: list[int], extra: int) -> None:
    front_end = FRONT_ENDS[name]()
    clips = [clip(n, i) for i, n in enumerate(lengths)]
    together = front_end(batch_of(clips, extra))
    for row, signal in enumerate(clips):
        alone = front_end(batch_of([signal]))
        assert together.lengths[row] == alone.lengths[0]
        size = alone.values.shape[2]
        torch.testing.assert_close(together.values[row, :, :size], alone.values[0], **CLOSE)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_autocast_does_not_lower_the_precision(name: str) -> None:
    front_end, batch = FRONT_ENDS[name](), batch_of([clip(9000)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered: Features = front_end(batch)
    assert lowered.values.dtype == torch.float32
    torch.testing.assert_close(lowered.values, front_end(batch).values, rtol=0, atol=0)


def test_repr_tells_front_ends_apart() -> None:
    made = [waveform(), waveform(False), whisper(), whisper(128), kaldi(), kaldi(frames=50)]
    made += [clap(), clap("pad"), clap(crop="centre"), clap(crop="windows")]
    assert len({repr(m) for m in made}) == len(made)
    assert "sample_rate=16000, n_mels=80, n_fft=400, hop=160, seconds=2" in repr(whisper())
    assert not list(whisper().parameters())
    assert not whisper().state_dict()


@pytest.mark.realdata
def test_real_sounds_equal_the_published_extractors(real_data: Path) -> None:
    """At the sizes of the published checkpoints; quiet bands beside loud ones are the hard part."""
    files = sorted((real_data / "esc10").rglob("*.ogg"))[::150]
    assert files
    made: dict[int, list[np.ndarray]] = {16000: [], 48000: []}
    for path in files:
        signal, rate = soundfile.read(path, dtype="float32")
        for target, clips in made.items():
            clips.append(soxr.resample(signal, rate, target).astype(np.float32))
    pairs: list[tuple[FrontEnd, Any]] = [
        (WhisperFeatures(WhisperSpec(16000, 80, 400, 160, 30)), WhisperFeatureExtractor()),
        (kaldi(frames=1024), ASTFeatureExtractor()),
        (
            ClapFeatures(ClapSpec(48000, 64, 1024, 480, 480000, 0, 14000, "repeatpad", "start")),
            ClapFeatureExtractor(truncation="rand_trunc"),
        ),
    ]
    for front_end, extractor in pairs:
        clips = made[extractor.sampling_rate]
        values = front_end(batch_of(clips)).values
        for row, signal in enumerate(clips):
            expected = extracted(extractor, signal).squeeze(0)
            mine = values[row] if expected.shape == values[row].shape else values[row].T
            torch.testing.assert_close(mine, expected, **CLOSE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_gpu_equals_cpu(name: str) -> None:
    front_end, batch = FRONT_ENDS[name](), batch_of([clip(9000), clip(5000, 1)])
    expected = front_end(batch).values
    values, lengths = front_end.cuda()(batch.to("cuda"))
    front_end.cpu()
    assert lengths.is_cuda
    torch.testing.assert_close(values.cpu(), expected, rtol=1e-3, atol=1e-3)
