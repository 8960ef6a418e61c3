"""Log-mel front ends on one core: ours on a batch, librosa and transformers on each waveform.

librosa makes the same log-mel features (no normalisation) as ``LogMel``; transformers' extractors
make those of published checkpoints, as our front ends of the checkpoint families do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import librosa
import numpy as np
import torch
from torch import nn

from benchmarks.speed.harness import RATE, print_figures, ratio, time_all
from multimodal.batch import Batch
from multimodal.encoders.families.audio_features import (
    KaldiFeatures,
    KaldiSpec,
    WhisperFeatures,
    WhisperSpec,
)
from multimodal.encoders.families.clap import ClapFeatures, ClapSpec
from multimodal.modalities.log_mel import FLOOR, LogMel

CLIPS, SECONDS = 32, 2.0
WINDOW, HOP, BANDS = 400, 160, 40


def noise(rate: int) -> np.ndarray:
    """(CLIPS, T) float32: noise whose level differs from clip to clip."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0.01, 0.2, (CLIPS, 1))
    return (level * rng.normal(size=(CLIPS, int(rate * SECONDS)))).astype(np.float32)


def batch_of(signals: np.ndarray) -> Batch:
    lengths = torch.full((len(signals),), signals.shape[1])
    rows = torch.arange(len(signals))
    return Batch(torch.from_numpy(signals)[:, None], lengths, rows, rows)


def with_librosa(signals: np.ndarray) -> np.ndarray:
    """(N, bands, frames), one waveform at a time."""
    made = [
        librosa.feature.melspectrogram(
            y=signal,
            sr=RATE,
            n_fft=WINDOW,
            hop_length=HOP,
            n_mels=BANDS,
            pad_mode="constant",
        )
        for signal in signals
    ]
    return np.log(np.stack(made) + FLOOR)


def checkpoint_pairs() -> dict[str, tuple[int, nn.Module, Any]]:
    """Family -> sample rate, our front end, transformers' extractor, at published sizes."""
    from transformers import ASTFeatureExtractor, ClapFeatureExtractor, WhisperFeatureExtractor

    ast = ASTFeatureExtractor()
    kaldi = KaldiSpec(16_000, 128, 1024, ast.mean, ast.std)
    clap = ClapSpec(48_000, 64, 1024, 480, 480_000, 0, 14_000, "repeatpad", "start")
    whisper = WhisperSpec(16_000, 80, 400, 160, 30)
    return {
        "whisper": (16_000, WhisperFeatures(whisper), WhisperFeatureExtractor()),
        "ast": (16_000, KaldiFeatures(kaldi), ast),
        "clap": (48_000, ClapFeatures(clap), ClapFeatureExtractor(truncation="rand_trunc")),
    }


def extracted(extractor: Any, rate: int, signals: np.ndarray) -> np.ndarray:
    """One waveform at a time, as a data loader's workers call it."""
    made = [extractor(s, sampling_rate=rate, return_tensors="np") for s in signals]
    return np.stack([m[extractor.model_input_names[0]][0].squeeze() for m in made])


def now(work: Callable[[], object]) -> Callable[[], Callable[[], object]]:
    """There is nothing to prepare."""
    return lambda: work


def main() -> None:
    torch.set_num_threads(1)
    repeats = 1 if "--quick" in sys.argv else 7
    signals = noise(RATE)
    batch, log_mel = batch_of(signals), LogMel(RATE, n_mels=BANDS, normalise="none")
    work: dict[str, Callable[[], object]] = {
        "log-mel: ours": lambda: log_mel(batch),
        "log-mel: librosa": lambda: with_librosa(signals),
    }
    difference = np.abs(log_mel(batch).values.numpy() - with_librosa(signals)).max()
    figures: dict[str, object] = {"max_abs_difference": float(difference)}
    for name, (rate, front_end, extractor) in checkpoint_pairs().items():
        own = noise(rate)
        work[f"{name}: ours"] = partial(front_end, batch_of(own))
        work[f"{name}: transformers"] = partial(extracted, extractor, rate, own)
        values, theirs = front_end(batch_of(own)).values.numpy(), extracted(extractor, rate, own)
        values = values if values.shape == theirs.shape else values.swapaxes(1, 2)
        figures[f"max_abs_difference_{name}"] = float(np.abs(values - theirs).max())
    seconds = time_all({name: now(run) for name, run in work.items()}, repeats=repeats)
    families = list(checkpoint_pairs())
    ratios = {n: ratio(seconds, f"{n}: transformers", f"{n}: ours") for n in families}
    figures = {
        "librosa_over_ours": ratio(seconds, "log-mel: librosa", "log-mel: ours"),
        "transformers_over_ours": ratios["whisper"],
        **{f"transformers_over_ours_{name}": value for name, value in ratios.items()},
        **figures,
    }
    title = f"{CLIPS} clips of {SECONDS:g} s, one thread (ms a clip)"
    print_figures(title, seconds, figures, per=CLIPS)


if __name__ == "__main__":
    main()
