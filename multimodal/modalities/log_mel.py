"""Log-mel features of sound: Batch (N, 1, T) -> Features (N, n_mels, frames).

    mel[b, t] = sum_f W[f, b] |STFT(x)[f, t]|^2,    y[b, t] = ln(mel[b, t] + FLOOR)

Periodic Hann window of ``window_ms``, Fourier size = window, frame t centred on sample t * hop,
zeros beyond both ends; triangular bands from 0 Hz to half the sample rate on the Slaney mel scale,
each of unit area (librosa's defaults).
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchaudio.functional import melscale_fbanks

from multimodal.batch import Batch, Features
from multimodal.errors import UserError

# The band power of white noise near -67 dB of full scale: digital silence, which synthesised and
# padded speech has, then lies just below quiet background noise instead of far away.
FLOOR = 1e-6
CPU_SAMPLES = 2**17  # of a part, for each thread
AT_ONCE = 2**12  # frames of a recording that is prepared
Normalisation = Literal["mean", "mean_variance", "none"]


class LogMel(nn.Module):
    """Front end without parameters.

    sample_rate: Hz. n_mels: bands. window_ms, hop_ms: rounded to whole samples.
    normalise: over the VALID frames of each recording and band,
    "mean" subtracts the mean (a fixed microphone's or room's colour is a constant in the log
    spectrum and so disappears), "mean_variance" also divides by the standard deviation (at least
    0.1), "none" leaves y as it is.

    Each recording's features depend on its own samples only: not on padding, batch or order.
    Raises UserError for bands too narrow to hold a Fourier bin, hops under one sample and unknown
    ``normalise``.
    """

    prepared = True  # see ``LogMelAdapter.with_features``

    window_W: Tensor
    filters_GB: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        *,
        n_mels: int = 40,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        normalise: Normalisation = "mean",
    ) -> None:
        super().__init__()
        if normalise not in get_args(Normalisation):
            raise UserError(
                f"normalise={normalise!r} is unknown; valid: {', '.join(get_args(Normalisation))}."
            )
        window = round(sample_rate * window_ms / 1000)
        self.hop = round(sample_rate * hop_ms / 1000)
        self.normalise = normalise
        if window < 2 or self.hop < 1:
            raise UserError(
                f"window_ms={window_ms}, hop_ms={hop_ms}: under one sample at {sample_rate} Hz; "
                "use longer ones."
            )
        self.register_buffer("window_W", torch.hann_window(window), persistent=False)
        filters_FB = _filters(sample_rate, n_mels, window, window_ms)
        # Twice each: for the squares of the real and the imaginary part.
        doubled_GB = filters_FB.repeat_interleave(2, dim=0)
        self.register_buffer("filters_GB", doubled_GB, persistent=False)

    def extra_repr(self) -> str:
        return f"hop={self.hop}, normalise={self.normalise!r}"

    def forward(self, batch: Batch) -> Features:
        """values: (N, n_mels, 1 + T // hop) float32, zero in padded frames.

        lengths: (N,) = 1 + length // hop. ``batch.inputs``: (N, 1, T), zero beyond the lengths.
        """
        signal_NT = batch.inputs.squeeze(1)
        # Half precision cannot hold power spectra: its range ends at 6e4.
        with torch.autocast(signal_NT.device.type, enabled=False):
            parts = [self._log_mel(part).transpose(1, 2) for part in _parts(signal_NT)]
            values_NBF = torch.cat(parts)
        return self.finished(values_NBF, 1 + batch.lengths // self.hop)

    def prepare(self, signal: Tensor) -> Tensor:
        """(T, 1) of a recording -> (1 + T // hop, n_mels), not yet normalised."""
        frames_1FW = self._frames(signal.T)
        # Long recordings in parts of like length, which have the same bits: the spectra of all of
        # an hour would take many times its memory.
        count = -(-frames_1FW.shape[1] // AT_ONCE)
        parts = [self._of_frames(part)[0] for part in frames_1FW.tensor_split(count, dim=1)]
        return parts[0] if count == 1 else torch.cat(parts)

    def finished(self, values_NBF: Tensor, lengths_N: Tensor) -> Features:
        """Of frames as ``prepare`` gives them, contiguous, whatever stands beyond the lengths."""
        with torch.autocast(values_NBF.device.type, enabled=False):
            valid_N1F = valid_frames(values_NBF, lengths_N)
            return Features(self._normalised(values_NBF, valid_N1F), lengths_N)

    def finishing(self) -> nn.Module:
        return Finishing(self)

    def _log_mel(self, signal_NT: Tensor) -> Tensor:
        return self._of_frames(self._frames(signal_NT))

    def _frames(self, signal_NT: Tensor) -> Tensor:
        """(N, F, W): a view."""
        window = len(self.window_W)
        return pad(signal_NT, (window // 2, window - window // 2)).unfold(1, window, self.hop)

    def _of_frames(self, frames_NFW: Tensor) -> Tensor:
        squares_NFG = torch.view_as_real(torch.fft.rfft(frames_NFW * self.window_W))
        squares_NFG = squares_NFG.flatten(2).square_()
        return product(squares_NFG, self.filters_GB).add_(FLOOR).log_()

    def _normalised(self, values_NBF: Tensor, valid_N1F: Tensor | None) -> Tensor:
        if self.normalise == "none":
            return masked(values_NBF, valid_N1F)
        if valid_N1F is None:
            count_N11 = values_NBF.new_tensor(values_NBF.shape[-1])
        else:
            count_N11 = valid_N1F.sum(-1, keepdim=True)
        mean_NB1 = masked(values_NBF, valid_N1F).sum(-1, keepdim=True) / count_N11
        values_NBF = masked(values_NBF - mean_NB1, valid_N1F)
        if self.normalise == "mean":
            return values_NBF
        variance_NB1 = values_NBF.square().sum(-1, keepdim=True) / count_N11
        return values_NBF / variance_NB1.clamp_min(0.01).sqrt()


class Finishing(nn.Module):
    """The rest of a front end, of batches of recordings that it prepared."""

    def __init__(self, front_end: Any) -> None:
        super().__init__()
        self.front_end = front_end

    def forward(self, batch: Batch) -> Features:
        """``batch.inputs``: (N, frames, n_mels); lengths: (N,) frames."""
        # Contiguous, for the order of a sum goes by the layout, and its last bits by the order.
        values_NBF = batch.inputs.transpose(1, 2).contiguous()
        return self.front_end.finished(values_NBF, batch.lengths)


def valid_frames(values_NBF: Tensor, lengths_N: Tensor) -> Tensor | None:
    """(N, 1, F) 1 where a frame is valid, else 0; None where all are, as far as that costs nothing.

    A GPU would have to be waited for.
    """
    count = values_NBF.shape[-1]
    if lengths_N.device.type == "cpu" and int(lengths_N.min()) >= count:
        return None
    frames = torch.arange(count, device=values_NBF.device)
    return (frames < lengths_N[:, None])[:, None].to(values_NBF.dtype)


def masked(values_NBF: Tensor, valid_N1F: Tensor | None) -> Tensor:
    """Zero where not valid; to the bit the same whether the mask is all ones or None."""
    return values_NBF if valid_N1F is None else values_NBF * valid_N1F


def _parts(signal_NT: Tensor) -> tuple[Tensor, ...]:
    """On a CPU, parts whose spectra stay in its cache; that saves a third of the time."""
    if signal_NT.device.type != "cpu":
        return (signal_NT,)
    return signal_NT.split(max(1, CPU_SAMPLES * torch.get_num_threads() // signal_NT.shape[1]))


def _filters(sample_rate: int, n_mels: int, n_fft: int, window_ms: float) -> Tensor:
    """(frequencies, bands)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchaudio warns of empty bands; here they are an error
        weights = melscale_fbanks(
            n_fft // 2 + 1,
            0.0,
            sample_rate / 2,
            n_mels,
            sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
    empty = int((weights.amax(dim=0) == 0).sum())
    if empty:
        raise UserError(
            f"n_mels={n_mels}: {empty} band(s) hold no frequency of a window of {window_ms} ms at "
            f"{sample_rate} Hz; use fewer bands or a longer window_ms."
        )
    return weights


def product(rows_NFG: Tensor, filters_GB: Tensor) -> Tensor:
    """(N, F, B), each row the same to the bit whatever the others are. A matrix of one row is
    multiplied by other code, which may end in another last bit.
    """
    if rows_NFG.shape[0] * rows_NFG.shape[1] == 1:
        return (rows_NFG.expand(1, 2, -1) @ filters_GB)[:, :1].clone()
    return rows_NFG @ filters_GB
