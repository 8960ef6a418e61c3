"""Audio: sound of any container that libsndfile or PyAV reads -> (1, T) float32 at one rate.

libsndfile comes first, with the decoding and the damage checks of speech. Only what it does not
know (AAC in MP4, WebM, WMA, the sound of a video) goes to PyAV, which is the extra "video".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import soundfile
import soxr
import torch
from pydantic import model_validator
from torch import Tensor, nn

from multimodal.batch import Batch, Features
from multimodal.errors import UserError, how_to_install
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import refuse_idle_crop
from multimodal.modalities.log_mel import LogMel
from multimodal.modalities.log_mel_config import (
    Bands,
    LogMelAdapter,
    LogMelConfig,
    Milliseconds,
    SampleRate,
    Seconds,
)
from multimodal.modalities.speech import (
    RESAMPLER,
    SpeechAdapter,
    SpeechConfig,
    refuse_damaged_container,
)
from multimodal.recordings import Recording

# libsndfile's error codes for a container it does not know and for a codec it cannot decode.
UNKNOWN_FORMAT, UNKNOWN_CODEC = 1, 4
# Containers round durations to their time base, codecs to whole frames (AAC: 1024 samples).
DURATION_TOLERANCE = 0.1
# Rounded mean and standard deviation of the log-mel values of ESC-10's training folds.
CENTRE, SCALE = -7.0, 5.0


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
        return f"audio/1 rate={c.sample_rate} {crop} mono soxr={RESAMPLER}"

    def load(self, recording: Recording) -> Tensor:
        """Decode the recording's part, mix to mono (mean), resample, clip to [-1, 1], crop.

        A part that reaches past the end of the signal ends there. An array from
        ``recording.make`` must be (1, T) at the canonical rate; it is cut in the same way.
        Returns (1, T), T >= 1. UserError: missing, empty, truncated, without sound, no sample in
        the part, NaN or infinite samples, samples far outside [-1, 1], PyAV needed but absent.
        """
        rate, path = self.config.sample_rate, recording.path
        if recording.make is None and path is not None and path.is_file():
            refuse_damaged_container(path, recording.where)
            if not _libsndfile_knows(path):
                signal, made_at = _read_with_pyav(path, recording.where)
                if made_at != rate:
                    signal = soxr.resample(signal, made_at, rate, quality=RESAMPLER)
                recording = replace(recording, make=lambda: signal[None])
        elif recording.make is not None:
            array = np.asarray(recording.make(), dtype=np.float32)
            if array.ndim != 2 or array.shape[0] != 1 or array.shape[1] == 0:
                raise UserError(
                    f"{recording.where}: the made array has shape {array.shape}; audio is (1, T), "
                    "T >= 1, float, mono."
                )
            recording = replace(recording, make=lambda: array)
        return self._cropped(self._decoder.load(recording))

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
        return SpeechConfig(sample_rate=self.config.sample_rate).build()

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

    def __init__(self, sample_rate: int, *, n_mels: int, window_ms: float, hop_ms: float) -> None:
        super().__init__()
        self.log_mel = LogMel(
            sample_rate, n_mels=n_mels, window_ms=window_ms, hop_ms=hop_ms, normalise="none"
        )

    def forward(self, batch: Batch) -> Features:
        """values: (N, n_mels, 1 + T // hop) float32; lengths: (N,) = 1 + length // hop."""
        values_NBF, lengths_N = self.log_mel(batch)
        frames = torch.arange(values_NBF.shape[-1], device=values_NBF.device)
        valid_N1F = (frames < lengths_N[:, None])[:, None]
        return Features(((values_NBF - CENTRE) / SCALE) * valid_N1F, lengths_N)


def _libsndfile_knows(path: Path) -> bool:
    """False if another library should try; damaged files of known formats count as known."""
    try:
        with soundfile.SoundFile(path):
            return True
    except soundfile.LibsndfileError as error:
        return error.code not in (UNKNOWN_FORMAT, UNKNOWN_CODEC)
    except TypeError:  # soundfile wants to be told the format of names that end in .raw
        return True


def _read_with_pyav(path: Path, where: str) -> tuple[np.ndarray, int]:
    """(T,) float32 mono of the first sound stream, and its rate in Hz."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise UserError(
            f"{where}: libsndfile does not know this format; if it is sound, PyAV may, or convert "
            f"it to WAV, FLAC, Ogg or MP3. For PyAV {how_to_install('video')}."
        ) from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{where}: it has no sound, only other streams; remove it.")
            stream = container.streams.audio[0]
            pieces = _decoded(container, stream)
            rate, announced = stream.rate, stream.duration
            seconds = float(announced * stream.time_base) if announced and stream.time_base else 0.0
    except (FFmpegError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{where}: damaged, truncated or not audio ({error}); replace it or convert it to "
            "WAV, FLAC, Ogg or MP3."
        ) from error
    if not pieces:
        raise UserError(f"{where}: the file holds no samples; remove or replace it.")
    signal = np.concatenate(pieces)
    if len(signal) / rate < seconds - DURATION_TOLERANCE:
        raise UserError(
            f"{where}: truncated, the header announces {seconds:.2f} s but only "
            f"{len(signal) / rate:.2f} s could be decoded; copy the file again."
        )
    return signal, rate


def _decoded(container: Any, stream: Any) -> list[np.ndarray]:
    """The stream's frames, each (n,) float32 in [-1, 1]: the mean of its channels."""
    import av

    to_float = av.AudioResampler(format="fltp")
    frames = [part for frame in container.decode(stream) for part in to_float.resample(frame)]
    frames += to_float.resample(None)
    return [frame.to_ndarray().mean(axis=0, dtype=np.float32) for frame in frames]
