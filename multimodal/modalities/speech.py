"""Speech: any file that libsndfile reads -> (1, T) float32 at one sample rate.

Decoding refuses damaged files instead of shortening or inventing a signal: libsndfile reports a
WAV, AIFF or Ogg file that was cut short as a shorter, healthy one, so the containers' own sizes
are compared with the bytes that are there.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import soundfile
import soxr
import torch
from pydantic import model_validator
from torch import Tensor, nn

from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import refuse_idle_crop
from multimodal.modalities.log_mel_config import (
    Bands,
    LogMelAdapter,
    LogMelConfig,
    Milliseconds,
    SampleRate,
    Seconds,
)
from multimodal.recordings import Recording

RESAMPLER = "HQ"
# Float files may exceed full scale a little; beyond this factor they hold another unit.
LARGEST_PEAK = 8.0
# Writers that cannot seek back leave sizes near 2**31 or 2**32 in the header: length unknown.
PLACEHOLDER = 0x7FFF0000
LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
MAX_FRAMES = 2**40


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
        return f"speech/1 rate={c.sample_rate} max_seconds={c.max_seconds} mono soxr={RESAMPLER}"

    def load(self, recording: Recording) -> Tensor:
        """Decode, cut to the recording's part and ``max_seconds``, mix to mono, resample, clip.

        A part that reaches past the end of the signal ends there. An array from
        ``recording.make`` must be (1, T) at the canonical rate; it is cut in the same way.
        Returns (1, T), T >= 1. UserError: missing, empty, truncated, not audio, no sample in the
        part, NaN or infinite samples, samples far outside [-1, 1].
        """
        target = self.config.sample_rate
        made = recording.make is not None
        signal, rate = self._made(recording) if made else self._read(recording)
        _refuse_bad_samples(signal, recording.where)
        if rate != target:
            signal = soxr.resample(signal, rate, target, quality=RESAMPLER)
        if self.config.max_seconds is not None:
            signal = signal[: round(self.config.max_seconds * target)]
        if not len(signal):
            raise UserError(f"{recording.where}: too short, no sample is left at {target} Hz.")
        return torch.from_numpy(np.clip(signal, -1.0, 1.0))[None]

    def front_end(self) -> nn.Module:
        """``LogMel``: Batch -> Features (N, n_mels, frames)."""
        from multimodal.modalities.log_mel import LogMel

        c = self.config
        return LogMel(c.sample_rate, n_mels=c.n_mels, window_ms=c.window_ms, hop_ms=c.hop_ms)

    def describe(self, class_name: str) -> list[str]:
        """The bare words first: that is what a transcript, the training text, looks like."""
        words = class_name.replace("_", " ").strip().lower()
        return [words, f"Someone says: {words}.", f"This is a recording of the words {words}."]

    def _part(self, recording: Recording, rate: int, frames: int) -> tuple[int, int]:
        """First frame and number of frames to keep; UserError if there is none."""
        first = round(recording.start * rate)
        count = frames - first
        if recording.duration is not None:
            count = min(count, round(recording.duration * rate))
        if self.config.max_seconds is not None:  # ``load`` cuts exactly, after resampling
            count = min(count, math.ceil(self.config.max_seconds * rate))
        if first < 0 or count < 1:
            raise UserError(
                f"{recording.where}: no sample lies in the part start={recording.start:g}, "
                f"duration={recording.duration} of a signal of {frames / rate:.3f} s; correct the "
                "recording's start and duration."
            )
        return first, count

    def _made(self, recording: Recording) -> tuple[np.ndarray, int]:
        """(T,) float32 from ``recording.make`` and the canonical rate."""
        assert recording.make is not None
        array = np.asarray(recording.make(), dtype=np.float32)
        if array.ndim != 2 or array.shape[0] != 1 or array.shape[1] == 0:
            raise UserError(
                f"{recording.where}: the made array has shape {array.shape}; speech is (1, T), "
                "T >= 1, float, mono."
            )
        first, count = self._part(recording, self.config.sample_rate, array.shape[1])
        return array[0, first : first + count], self.config.sample_rate

    def _read(self, recording: Recording) -> tuple[np.ndarray, int]:
        """(T,) float32 mono at the file's rate, and that rate in Hz."""
        where, path = recording.where, recording.path
        if path is None or not path.is_file():
            raise UserError(f"{where}: no such file; correct the path or restore the file.")
        refuse_damaged_container(path, where)
        try:
            with soundfile.SoundFile(path) as file:
                frames, rate = file.frames, file.samplerate
                if frames == 0:
                    raise UserError(f"{where}: the file holds no samples; remove or replace it.")
                if frames > MAX_FRAMES:
                    raise UserError(
                        f"{where}: a streamed file whose header does not say how long it is; "
                        "encode it again from a file, not from a pipe."
                    )
                first, count = self._part(recording, rate, frames)
                file.seek(first)
                signal = file.read(count, dtype="float32", always_2d=True)
        # soundfile answers a name that ends in .raw with a TypeError.
        except (soundfile.SoundFileError, TypeError) as error:
            reason = getattr(error, "error_string", error)
            raise UserError(
                f"{where}: damaged, truncated or not audio ({reason}); replace it or convert it to "
                "WAV, FLAC, Ogg or MP3."
            ) from error
        if len(signal) != count:
            raise UserError(
                f"{where}: truncated, the header announces {frames} frames but only "
                f"{first + len(signal)} could be decoded; copy the file again."
            )
        return signal[:, 0] if signal.shape[1] == 1 else signal.mean(axis=1), rate


def refuse_damaged_container(path: Path, where: str) -> None:
    """UserError if the file is empty or shorter than its own container says.

    WAV (RIFF, RF64) and AIFF: the size of the sample chunk; Ogg: the last page is whole and marked
    as the last. FLAC, MP3 and CAF need no such check: decoding them fails or yields fewer frames
    than announced. Rarer formats (AU, W64) are not checked.
    """
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{where}: empty file (0 bytes); copy it again or remove it.")
    with path.open("rb") as file:
        magic = file.read(4)
        if magic in (b"RIFF", b"RF64", b"FORM"):
            missing = _missing_in_chunks(file, magic, size)
        elif magic == b"OggS":
            missing = _missing_in_ogg(file, size)
        else:
            missing = ""
    if missing:
        raise UserError(f"{where}: truncated, {missing}; copy the file again.")


def _missing_in_chunks(file: BinaryIO, magic: bytes, size: int) -> str:
    """What is missing of the sample chunk, in words; "" if nothing is."""
    order, wanted = (">", b"SSND") if magic == b"FORM" else ("<", b"data")
    position, large = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        position += 8
        if name == b"ds64" and position + 16 <= size:
            large = struct.unpack("<8xQ", file.read(16))[0]
        if name == wanted:
            unknown = length >= PLACEHOLDER
            length = large if unknown else length
            present = size - position
            return f"{present} of {length} bytes of samples are there" if length > present else ""
        position += length + length % 2
    return ""


def _missing_in_ogg(file: BinaryIO, size: int) -> str:
    """What is wrong with the last Ogg page, in words; "" if nothing is (RFC 3533, section 6)."""
    file.seek(max(0, size - LARGEST_OGG_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27]
    if page < 0 or len(header) < 27:
        return "its last page is not whole"
    segments = tail[page + 27 : page + 27 + header[26]]
    if len(segments) < header[26] or page + 27 + header[26] + sum(segments) > len(tail):
        return "its last page is not whole"
    return "" if header[5] & 4 else "its end-of-stream page is missing"


def _refuse_bad_samples(signal: np.ndarray, where: str) -> None:
    bad = len(signal) - np.count_nonzero(np.isfinite(signal))
    if bad:
        raise UserError(f"{where}: {bad} of {len(signal)} samples are NaN or infinite; remake it.")
    peak = float(np.abs(signal).max())
    if peak > LARGEST_PEAK:
        raise UserError(
            f"{where}: samples reach {peak:g}, full scale is 1; divide them by their full scale."
        )
