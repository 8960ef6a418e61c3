"""Audio: sound of any container that libsndfile or PyAV reads -> (1, T) float32 at one rate.

libsndfile comes first, as for speech. Only what it does not know (AAC in MP4, WebM, WMA, the sound
of a video) goes to PyAV, which is the extra "video".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import model_validator
from torch import Tensor, nn

from multimodal.batch import Batch, Features
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import refuse_idle_crop
from multimodal.modalities.log_mel import Finishing, LogMel, masked, valid_frames
from multimodal.modalities.log_mel_config import (
    Bands,
    LogMelAdapter,
    LogMelConfig,
    Milliseconds,
    SampleRate,
    Seconds,
)
from multimodal.modalities.sound.av_read import read_with_pyav
from multimodal.modalities.sound.part import Part
from multimodal.modalities.sound.read import (
    UnknownSound,
    read_sound,
    refuse_damaged_container,
    stated_frames,
)
from multimodal.modalities.speech import RESAMPLER, SpeechAdapter, SpeechConfig
from multimodal.recordings import Recording

# Rounded mean and standard deviation of the log-mel values of ESC-10's training folds.
CENTRE, SCALE = -7.0, 5.0
# Seconds that are decoded behind what is kept: so far no filter of another rate reaches.
MARGIN = 2.0


@MODALITIES.register("audio")
class AudioConfig(LogMelConfig):
    """Sound signals and their log-mel features.

    The defaults for rate, bands and step are those of PANNs (Kong et al., arXiv:1912.10211).
    sample_rate: Hz, 1,000 to 192,000; files at other rates are resampled (soxr, quality HQ).
    seconds: keep at most this much of each recording (None: all of it), always the same part:
    crop="centre" or "start". Shorter recordings keep their length; batches pad them with zeros on
    the right and mask the padding, so nothing is tiled and silence is not made up.
    n_mels: bands, 1 to 512. window_ms: Fourier window, (0, 1000]; hop_ms: step between frames,
    (0, window_ms].
    augment: random changes of training batches, after ``seconds``; None: no changes.
    """

    sample_rate: SampleRate = 32000
    seconds: Seconds | None = None
    crop: Literal["centre", "start"] = "centre"
    n_mels: Bands = 64
    window_ms: Milliseconds = 32.0

    @model_validator(mode="after")
    def _crop_within_seconds(self) -> Self:
        refuse_idle_crop(self.augment, "seconds", self.seconds)
        return self

    def build(self) -> AudioAdapter:
        return AudioAdapter(self)


@dataclass(frozen=True)
class AudioAdapter(LogMelAdapter):
    """Adapter of audio: canonical signal (1, T) float32 in [-1, 1] at ``config.sample_rate``.

    ``load`` may be called from several threads.
    """

    config: AudioConfig

    @property
    def fingerprint(self) -> str:
        c = self.config
        crop = f"seconds={c.seconds} crop={c.crop}"
        return f"audio/2 rate={c.sample_rate} {crop} mono soxr={RESAMPLER}"

    def load(self, recording: Recording) -> Tensor:
        """Decode the recording's part, mix to mono (mean), resample, clip to [-1, 1], crop.

        With ``seconds`` no more is decoded than it needs: from the start little more than that, and
        of the centre, where the whole would be more than a recording may take, that of the length
        which the header states, to a sample.
        A part is what the decoding of the whole file has there, to the bit; it ends where the
        signal ends. The sound of a film that begins after its pictures has silence before it, so
        that parts count from the film's beginning. An array from ``recording.make`` must be
        (1, T) at the canonical rate; it is cut in the same way.
        Returns (1, T), T >= 1. UserError: as speech has them, without sound, PyAV needed but
        absent.
        """
        if recording.make is not None:
            array = np.asarray(recording.make(), dtype=np.float32)
            if array.ndim != 2 or array.shape[0] != 1 or array.shape[1] == 0:
                raise UserError(
                    f"{recording.where}: the made array has shape {array.shape}; audio is (1, T), "
                    "T >= 1, float, mono."
                )
            recording = replace(recording, make=lambda: array)
        if self.config.seconds is not None and self.config.crop == "centre":
            recording = _near_the_centre(recording, self.config.seconds, self.config.sample_rate)
        return self._cropped(self._decoder.load(recording, _read))

    def front_end(self) -> nn.Module:
        """``AudioLogMel``: Batch -> Features (N, n_mels, frames)."""
        c = self.config
        return AudioLogMel(c.sample_rate, n_mels=c.n_mels, window_ms=c.window_ms, hop_ms=c.hop_ms)

    def describe(self, class_name: str) -> list[str]:
        """The prompt of CLAP's zero-shot evaluation first (Elizalde et al., arXiv:2206.04769)."""
        words = class_name.replace("_", " ").strip().lower()
        return [f"This is a sound of {words}.", words, f"A recording of {words}."]

    @cached_property
    def _decoder(self) -> SpeechAdapter:
        c = self.config
        most = c.seconds + MARGIN if c.seconds is not None and c.crop == "start" else None
        return SpeechConfig(sample_rate=c.sample_rate, max_seconds=most).build()

    def _cropped(self, signal: Tensor) -> Tensor:
        if self.config.seconds is None:
            return signal
        length = max(1, round(self.config.seconds * self.config.sample_rate))
        spare = max(0, signal.shape[1] - length)
        first = spare // 2 if self.config.crop == "centre" else 0
        return signal[:, first : first + length]


class AudioLogMel(nn.Module):
    """Log-mel features of everyday sound: (ln(mel + floor) - CENTRE) / SCALE, zero in padding.

    Unlike speech, no mean is taken off each recording: the steady part of a spectrum, which that
    removes, is what rain, engines and vacuum cleaners are told apart by.
    """

    prepared = True  # see ``LogMelAdapter.with_features``

    def __init__(self, sample_rate: int, *, n_mels: int, window_ms: float, hop_ms: float) -> None:
        super().__init__()
        self.log_mel = LogMel(
            sample_rate, n_mels=n_mels, window_ms=window_ms, hop_ms=hop_ms, normalise="none"
        )

    def forward(self, batch: Batch) -> Features:
        """values: (N, n_mels, 1 + T // hop) float32; lengths: (N,) = 1 + length // hop."""
        return self._scaled(self.log_mel(batch))

    def prepare(self, signal: Tensor) -> Tensor:
        """As of ``LogMel``."""
        return self.log_mel.prepare(signal)

    def finished(self, values_NBF: Tensor, lengths_N: Tensor) -> Features:
        """As of ``LogMel``."""
        return self._scaled(self.log_mel.finished(values_NBF, lengths_N))

    def finishing(self) -> nn.Module:
        return Finishing(self)

    def _scaled(self, features: Features) -> Features:
        values_NBF, lengths_N = features
        valid_N1F = valid_frames(values_NBF, lengths_N)
        return Features(masked((values_NBF - CENTRE) / SCALE, valid_N1F), lengths_N)


def _near_the_centre(recording: Recording, seconds: float, target: int) -> Recording:
    """The recording's central part, if all of it would not fit; otherwise the recording."""
    if recording.path is None or recording.make is not None:
        return recording
    try:
        frames, rate = stated_frames(recording.path)
    except UnknownSound:
        return recording
    whole = Part("", recording.start, recording.duration, None, target)
    first, stop = whole.frames(rate)
    count = (frames if stop is None else min(frames, stop)) - first
    if count <= seconds * rate or whole.fits(count, rate):
        return recording
    start = (first + (count - round(seconds * rate)) // 2) / rate
    return replace(recording, start=start, duration=seconds)


def _read(path: Path, part: Part) -> tuple[np.ndarray, int]:
    try:
        return read_sound(path, part)
    except UnknownSound:
        refuse_damaged_container(path, part.where)
        return read_with_pyav(path, part)
