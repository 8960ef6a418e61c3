"""What happens to an ECG's samples: gaps, sample rate, band-pass, and the front end."""

from __future__ import annotations

import numpy as np
import soxr
import torch
from torch import nn

from multimodal.batch import Batch, Features

RESAMPLER = "HQ"
FILTER_ORDER = 2


def runs(missing: np.ndarray) -> list[tuple[int, int]]:
    """(first, last + 1) of every run of True in (T,) bool."""
    steps = np.diff(np.concatenate([[0], missing.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def interpolated(samples: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """(k, T) with the ``missing`` (k, T) bool samples of each lead on straight lines.

    At the ends the nearest sample is repeated. Every lead needs a sample that is there.
    """
    if not missing.any():
        return samples
    filled, time = samples.copy(), np.arange(samples.shape[1])
    for lead, bad in zip(filled, missing, strict=True):
        lead[bad] = np.interp(time[bad], time[~bad], lead[~bad])
    return filled


def resampled(samples: np.ndarray, rate: float, target: int) -> np.ndarray:
    """(k, T) at ``rate`` Hz -> (k, round(T * target / rate)) float32 at ``target`` Hz."""
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if rate == target:
        return samples
    # Beyond its ends the resampler sees zeros; an ECG with an offset would ring there.
    pad, steps = round(rate), max(1, round(samples.shape[1] * target / rate))
    padded = np.pad(samples, ((0, 0), (pad, pad)), mode="edge")
    out = soxr.resample(np.ascontiguousarray(padded.T), rate, target, quality=RESAMPLER)
    first = round(pad * target / rate)
    return np.ascontiguousarray(out[first : first + steps].T)


def band_passed(samples: np.ndarray, band: tuple[float, float], rate: int) -> np.ndarray:
    """(k, T) float32 through a Butterworth filter, forwards and backwards (no delay)."""
    from scipy.signal import butter, sosfiltfilt

    sections = np.asarray(butter(FILTER_ORDER, band, btype="bandpass", fs=rate, output="sos"))
    # A second of mirrored signal at the ends lets the filter settle, as far as there is a signal.
    pad = min(rate, samples.shape[1] - 1)
    out = sosfiltfilt(sections, samples.astype(np.float64), axis=-1, padlen=pad)
    return np.ascontiguousarray(out, dtype=np.float32)


class EcgScale(nn.Module):
    """Front end without parameters: (x - mean) / scale_mv, the same scale for every recording.

    The mean is that of each lead's valid steps; missing leads stay zero, so their mask is the
    leads with any sample other than zero.
    """

    def __init__(
        self, *, scale_mv: float = 0.239, centre: bool = True, lead_mask: bool = False
    ) -> None:
        super().__init__()
        self.scale_mv, self.centre, self.lead_mask = scale_mv, centre, lead_mask

    def forward(self, batch: Batch) -> Features:
        """values: (N, 12, T) float32, or (N, 24, T) with ``lead_mask``; zero in padded steps."""
        signal_NLT = batch.inputs
        steps = torch.arange(signal_NLT.shape[-1], device=signal_NLT.device)
        valid_N1T = (steps < batch.lengths[:, None])[:, None].to(signal_NLT.dtype)
        present_NL1 = (signal_NLT != 0).any(-1, keepdim=True).to(signal_NLT.dtype)
        if self.centre:
            mean_NL1 = signal_NLT.sum(-1, keepdim=True) / batch.lengths[:, None, None]
            signal_NLT = (signal_NLT - mean_NL1) * valid_N1T
        values_NLT = signal_NLT / self.scale_mv
        if self.lead_mask:
            values_NLT = torch.cat([values_NLT, present_NL1 * valid_N1T], dim=1)
        return Features(values_NLT, batch.lengths)
