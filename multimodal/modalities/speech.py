"""Speech: any file that libsndfile reads -> (1, T) float32 at one sample rate.

What is decoded is compared with what the file states (``multimodal.modalities.sound``): damaged
files are refused instead of shortening or inventing a signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import soxr
import torch
from pydantic import model_validator
from torch import Tensor, nn

from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import refuse_idle_crop
from multimodal.modalities.budget import within_memory
from multimodal.modalities.log_mel_config import (
    Bands,
    LogMelAdapter,
    LogMelConfig,
    Milliseconds,
    SampleRate,
    Seconds,
)
from multimodal.modalities.sound.part import Kept, Part
from multimodal.modalities.sound.read import read_sound
from multimodal.recordings import Recording

RESAMPLER = "HQ"
# Float files may exceed full scale a little; beyond this factor they hold another unit.
LARGEST_PEAK = 8.0

Reader = Callable[[Path, Part], tuple[np.ndarray, int]]


@MODALITIES.register("speech")
class SpeechConfig(LogMelConfig):
    """Speech signals and their log-mel features.

    sample_rate: Hz, 1,000 to 192,000; files at other rates are resampled (soxr, quality HQ).
    max_seconds: keep at most this much, from the start of each recording (None: all of it).
    n_mels: bands, 1 to 512. window_ms: Fourier window, (0, 1000]; hop_ms: step between frames,
    (0, window_ms].
    augment: random changes of training batches, after ``max_seconds``; None: no changes.
    """

    sample_rate: SampleRate = 16000
    max_seconds: Seconds | None = None
    n_mels: Bands = 40
    window_ms: Milliseconds = 25.0

    @model_validator(mode="after")
    def _crop_within_seconds(self) -> Self:
        refuse_idle_crop(self.augment, "max_seconds", self.max_seconds)
        return self

    def build(self) -> SpeechAdapter:
        return SpeechAdapter(self)


@dataclass(frozen=True)
class SpeechAdapter(LogMelAdapter):
    """Adapter of speech: canonical signal (1, T) float32 in [-1, 1] at ``config.sample_rate``.

    ``load`` may be called from several threads.
    """

    config: SpeechConfig

    @property
    def fingerprint(self) -> str:
        c = self.config
        return f"speech/2 rate={c.sample_rate} max_seconds={c.max_seconds} mono soxr={RESAMPLER}"

    @within_memory
    def load(self, recording: Recording, read: Reader = read_sound) -> Tensor:
        """Decode, cut to the recording's part and ``max_seconds``, mix to mono, resample, clip.

        A part is what the decoding of the whole file has there, to the bit; it ends where the
        signal ends. An array from ``recording.make`` must be (1, T) at the canonical rate; it is
        cut in the same way. ``read`` decodes files.
        Returns (1, T), T >= 1. UserError: missing, empty, truncated, longer than stated, not
        audio, no sample in the part, NaN or infinite samples, samples far outside [-1, 1], a rate
        that no recording has, more than ``budget.most_bytes``.
        """
        target, where = self.config.sample_rate, recording.where
        part = Part(where, recording.start, recording.duration, self.config.max_seconds, target)
        if recording.make is not None:
            signal, rate = _made(recording, part), target
        elif recording.path is None or not recording.path.is_file():
            raise UserError(f"{where}: no such file; correct the path or restore the file.")
        else:
            signal, rate = read(recording.path, part)
        _refuse_bad_samples(signal, where)
        part.refuse_long(len(signal), rate)
        if rate != target:
            signal = soxr.resample(signal, rate, target, quality=RESAMPLER)
        if self.config.max_seconds is not None:
            signal = signal[: round(self.config.max_seconds * target)]
        if not len(signal):
            raise UserError(f"{where}: too short, no sample is left at {target} Hz.")
        own = None if recording.make is not None else signal  # long ones are not copied
        return torch.from_numpy(np.clip(signal, -1.0, 1.0, out=own))[None]

    def front_end(self) -> nn.Module:
        """``LogMel``: Batch -> Features (N, n_mels, frames)."""
        from multimodal.modalities.log_mel import LogMel

        c = self.config
        return LogMel(c.sample_rate, n_mels=c.n_mels, window_ms=c.window_ms, hop_ms=c.hop_ms)

    def describe(self, class_name: str) -> list[str]:
        """The bare words first: that is what a transcript, the training text, looks like."""
        words = class_name.replace("_", " ").strip().lower()
        return [words, f"Someone says: {words}.", f"This is a recording of the words {words}."]


def _made(recording: Recording, part: Part) -> np.ndarray:
    """(T,) float32 from ``recording.make``."""
    assert recording.make is not None
    array = np.asarray(recording.make(), dtype=np.float32)
    if array.ndim != 2 or array.shape[0] != 1 or array.shape[1] == 0:
        raise UserError(
            f"{recording.where}: the made array has shape {array.shape}; speech is (1, T), "
            "T >= 1, float, mono."
        )
    kept = Kept(part, part.target)
    kept.add(array[0])
    return kept.joined()


def _refuse_bad_samples(signal: np.ndarray, where: str) -> None:
    bad = len(signal) - np.count_nonzero(np.isfinite(signal))
    if bad:
        raise UserError(f"{where}: {bad} of {len(signal)} samples are NaN or infinite; remake it.")
    peak = float(max(signal.max(), -signal.min()))
    if peak > LARGEST_PEAK:
        raise UserError(
            f"{where}: samples reach {peak:g}, full scale is 1; divide them by their full scale."
        )
