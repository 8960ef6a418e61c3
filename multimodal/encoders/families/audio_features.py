"""Front ends of pretrained audio and speech encoders: Batch (N, 1, T) -> Features.

Each equals its checkpoint's own extractor on every recording ALONE, whatever stands beside it in
the batch; runs on the batch's device in float32 (also under autocast), draws no random number and
has no loop over recordings. ``repr`` prints the whole spec, so caches of features may key on it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from multimodal.batch import Batch, Features
from multimodal.encoders.families import load_processor
from multimodal.errors import UserError
from multimodal.modalities import Adapter

KALDI_PREEMPHASIS = 0.97
KALDI_FLOOR = torch.finfo(torch.float32).eps
KALDI_LOW_HZ = 20.0
WHISPER_FLOOR = 1e-10


class FrontEnd(nn.Module):
    """A module without parameters that a frozen ``spec`` describes completely."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec = spec

    def extra_repr(self) -> str:
        return repr(self.spec)

    def forward(self, batch: Batch) -> Features:
        """``features`` in full precision: half precision cannot hold power spectra."""
        signal_NT = batch.inputs.squeeze(1).float()
        with torch.autocast(signal_NT.device.type, enabled=False):
            return self.features(signal_NT, batch.lengths)

    def features(self, signal_NT: Tensor, lengths_N: Tensor) -> Features:
        """signal_NT: zero beyond ``lengths_N``, both on one device."""
        raise NotImplementedError


@dataclass(frozen=True)
class WaveformSpec:
    """sample_rate: Hz. normalise: every recording to mean 0 and variance 1."""

    sample_rate: int
    normalise: bool


class WaveformFeatures(FrontEnd):
    """wav2vec 2.0, HuBERT, WavLM (Wav2Vec2FeatureExtractor): the samples themselves.

    y = (x - mean) / sqrt(variance + 1e-7) over the valid samples, zero in padding. (The extractor
    itself, told to pad but not to return a mask, takes the padding into the mean.)
    values: (N, 1, T). lengths: (N,) samples.
    """

    spec: WaveformSpec

    def features(self, signal_NT: Tensor, lengths_N: Tensor) -> Features:
        if self.spec.normalise:
            count_N1 = lengths_N[:, None]
            valid_NT = torch.arange(signal_NT.shape[1], device=signal_NT.device) < count_N1
            signal_NT = (signal_NT - signal_NT.sum(1, keepdim=True) / count_N1) * valid_NT
            variance_N1 = signal_NT.square().sum(1, keepdim=True) / count_N1
            signal_NT = signal_NT * (variance_N1 + 1e-7).rsqrt()
        return Features(signal_NT[:, None], lengths_N)


@dataclass(frozen=True)
class WhisperSpec:
    """sample_rate: Hz. n_fft, hop: samples. seconds: of a window, to which everything is brought.

    cut: leave out the silence behind the batch's longest recording, all but two frames.
    """

    sample_rate: int
    n_mels: int
    n_fft: int
    hop: int
    seconds: int
    cut: bool = False


class WhisperFeatures(FrontEnd):
    """Whisper (WhisperFeatureExtractor): log-mel of windows of exactly ``seconds`` (30 s).

    Shorter recordings are followed by silence; longer ones are windows in a row, each of which is
    what the extractor makes of it alone, and the last is what is left, followed by silence.
    y = (max(log10 mel, peak - 8) + 4) / 4, where peak is the window's largest value, mel is
    Slaney's from 0 to 8,000 Hz, and log10 is floored at -10. A checkpoint's dither is left out.
    values: (N, n_mels, windows x seconds x sample_rate / hop; fewer if cut, an even number).
    lengths: (N,) frames that begin in sound.
    """

    spec: WhisperSpec
    filters_BF: Tensor

    def __init__(self, spec: WhisperSpec) -> None:
        super().__init__(spec)
        filters_FB = mel_filters(
            spec.n_fft, spec.n_mels, 0.0, 8000.0, spec.sample_rate, norm="slaney"
        )
        self.register_buffer("filters_BF", filters_FB.T.contiguous(), persistent=False)

    def extra_repr(self) -> str:
        """Embeddings that were kept when only the first window was read are not taken again."""
        return f"{super().extra_repr()}, every window"

    def features(self, signal_NT: Tensor, lengths_N: Tensor) -> Features:
        hop, limit = self.spec.hop, self.spec.seconds * self.spec.sample_rate
        if signal_NT.shape[1] > limit:
            signal_NT = signal_NT[:, : int(lengths_N.max())]
        parts = [self._window(part_NT) for part_NT in signal_NT.split(limit, dim=1)]
        return Features(torch.cat(parts, dim=2), (lengths_N + hop - 1) // hop)

    def _window(self, signal_NT: Tensor) -> Tensor:
        """(N, n_mels, frames) of no more than ``seconds``."""
        s = self.spec
        limit = s.seconds * s.sample_rate
        # The silence behind the batch's longest recording is one constant: only its edge is
        # transformed.
        span = min(limit, -(-(signal_NT.shape[1] + s.n_fft) // s.hop) * s.hop)
        power_NFT = power_spectrum(pad(signal_NT, (0, span - signal_NT.shape[1])), s.n_fft, s.hop)
        log_NBT = (self.filters_BF @ power_NFT[..., :-1]).clamp_min(WHISPER_FLOOR).log10()
        silent = limit // s.hop - log_NBT.shape[2]
        if s.cut:
            # The convolutions see two frames further than the last that is read.
            longest = (signal_NT.shape[1] + s.hop - 1) // s.hop
            silent = min(limit // s.hop, longest + longest % 2 + 2) - log_NBT.shape[2]
        log_NBT = pad(log_NBT, (0, silent), value=-10.0)
        log_NBT = log_NBT.maximum(log_NBT.amax((1, 2), keepdim=True) - 8.0)
        return (log_NBT + 4.0) / 4.0


@dataclass(frozen=True)
class KaldiSpec:
    """sample_rate: Hz. frames: of a window, to which everything is brought. mean, std: None = as
    it is.
    """

    sample_rate: int
    n_mels: int
    frames: int
    mean: float | None
    std: float | None


class KaldiFeatures(FrontEnd):
    """AST (ASTFeatureExtractor): Kaldi's log-mel filter bank, (y - mean) / (2 std).

    Windows of 25 ms every 10 ms, only whole ones; of each its mean is taken off, then x[i] - 0.97
    x[i - 1], symmetric Hann window, power of the next power of two; triangles on Kaldi's mel scale
    from 20 Hz to half the sample rate; ln, floored at float32's epsilon; no dither.
    Recordings shorter than 25 ms, which the extractor refuses, are followed by silence. Of longer
    ones than ``frames`` hold, the frames that follow are further windows, each what the extractor
    makes of its samples alone.
    values: (N, n_mels, windows x frames); padded frames hold y = 0 before the normalisation, as in
    training. lengths: (N,) real frames, at least 1.
    """

    spec: KaldiSpec
    filters_FB: Tensor
    window_W: Tensor

    def __init__(self, spec: KaldiSpec) -> None:
        super().__init__(spec)
        rate = spec.sample_rate
        self.size, self.hop = rate * 25 // 1000, rate * 10 // 1000
        self.n_fft = 1 << (self.size - 1).bit_length()
        filters_FB = mel_filters(
            self.n_fft, spec.n_mels, KALDI_LOW_HZ, rate / 2, rate, scale="kaldi"
        )
        window_W = torch.hann_window(self.size, periodic=False)
        self.register_buffer("filters_FB", filters_FB, persistent=False)
        self.register_buffer("window_W", window_W, persistent=False)

    def extra_repr(self) -> str:
        """Embeddings that were kept when only the first window was read are not taken again."""
        return f"{super().extra_repr()}, every window"

    def features(self, signal_NT: Tensor, lengths_N: Tensor) -> Features:
        s, step = self.spec, self.spec.frames * self.hop
        longest = self.size + step - self.hop
        count_N = 1 + (lengths_N.clamp(self.size) - self.size) // self.hop
        most = s.frames if signal_NT.shape[1] <= longest else int(count_N.max())
        parts = []
        for window in range(-(-most // s.frames)):
            part_NT = signal_NT[:, window * step :][:, :longest]
            parts.append(self._window(part_NT, count_N - window * s.frames))
        return Features(torch.cat(parts, dim=2), count_N)

    def _window(self, signal_NT: Tensor, count_N: Tensor) -> Tensor:
        """(N, n_mels, frames) of the samples of a window; count_N: its real frames, or more."""
        s = self.spec
        signal_NT = pad(signal_NT, (0, max(0, self.size - signal_NT.shape[1])))
        frames_NTW = signal_NT.unfold(1, self.size, self.hop)
        frames_NTW = frames_NTW - frames_NTW.mean(2, keepdim=True)
        before_NTW = torch.cat([frames_NTW[..., :1], frames_NTW[..., :-1]], dim=2)
        frames_NTW = (frames_NTW - KALDI_PREEMPHASIS * before_NTW) * self.window_W
        power_NTF = torch.fft.rfft(frames_NTW, self.n_fft).abs().square()
        log_NTB = (power_NTF @ self.filters_FB).clamp_min(KALDI_FLOOR).log()
        real_NT = torch.arange(log_NTB.shape[1], device=log_NTB.device) < count_N[:, None]
        values_NBT = (log_NTB * real_NT[..., None]).transpose(1, 2)
        values_NBT = pad(values_NBT, (0, s.frames - values_NBT.shape[2]))
        if s.mean is not None and s.std is not None:
            values_NBT = (values_NBT - s.mean) / (2 * s.std)
        return values_NBT


def power_spectrum(signal_NT: Tensor, n_fft: int, hop: int) -> Tensor:
    """(N, n_fft / 2 + 1, 1 + T // hop) float32: periodic Hann, centred, mirrored at both ends."""
    window = torch.hann_window(n_fft, dtype=signal_NT.dtype, device=signal_NT.device)
    spectrum = torch.stft(signal_NT, n_fft, hop, window=window, return_complex=True)
    real, imaginary = torch.view_as_real(spectrum.to(torch.complex64)).unbind(-1)
    return torch.addcmul(real.square(), imaginary, imaginary)


def mel_filters(
    n_fft: int,
    n_mels: int,
    low_hz: float,
    high_hz: float,
    sample_rate: int,
    *,
    scale: str = "slaney",
    norm: str | None = None,
) -> Tensor:
    """(n_fft / 2 + 1, n_mels) float32: transformers' filters, which its extractors use."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        # AST's own 128 bands leave some without a Fourier bin: that is how it was trained.
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        filters_FB = mel_filter_bank(
            n_fft // 2 + 1,
            n_mels,
            low_hz,
            high_hz,
            sample_rate,
            norm,
            scale,
            triangularize_in_mel_space=scale == "kaldi",
        )
    return torch.from_numpy(filters_FB).float()


def extractor_of(folder: Path, adapter: Adapter, wanted: str) -> Any:
    """The checkpoint's extractor; UserError if it is of another class or sample rate."""
    from transformers import AutoFeatureExtractor

    made = load_processor(AutoFeatureExtractor, folder, "preprocessor_config.json")
    if type(made).__name__ != wanted:
        raise UserError(
            f"{folder}: preprocessor_config.json is of a {type(made).__name__}, not of a {wanted}; "
            "copy it from the checkpoint's page."
        )
    rate = adapter.config.sample_rate  # pyright: ignore
    if rate != made.sampling_rate:
        raise UserError(
            f"modality.sample_rate={rate}: checkpoint {folder} wants {made.sampling_rate} Hz; set "
            f"modality.sample_rate={made.sampling_rate}."
        )
    return made


def refuse_shape(folder: Path, made: tuple[int, int], wanted: tuple[int, int]) -> None:
    """UserError unless the features (bands, frames) are those that the encoder reads."""
    if made != wanted:
        raise UserError(
            f"{folder}: preprocessor_config.json makes {made[0]} bands x {made[1]} frames, the "
            f"encoder of config.json reads {wanted[0]} x {wanted[1]}; copy both files from the "
            "same checkpoint."
        )
