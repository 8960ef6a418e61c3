"""What happens to an ECG's samples: gaps, sample rate, band-pass, and the front end."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import nn

from multimodal.batch import Batch, Features
from multimodal.errors import UserError
from multimodal.modalities.budget import most_bytes, words
from multimodal.modalities.ecg_leads import LEADS

RESAMPLER = "HQ"
FILTER_ORDER = 2
LONGEST_LEAD_IN = 16.0  # seconds
FLOAT = 4  # bytes
LOWEST_HZ, HIGHEST_HZ = 10.0, 100_000.0


def runs(missing: np.ndarray) -> list[tuple[int, int]]:
    """(first, last + 1) of every run of True in (T,) bool."""
    edge = np.zeros(1, np.int8)
    steps = np.diff(np.concatenate([edge, missing.astype(np.int8), edge]))
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


def resampled(samples: np.ndarray, rate: float, target: int, steps: int = 0) -> np.ndarray:
    """(k, T) at ``rate`` Hz -> (k, steps) float32 at ``target`` Hz, from the same moment on.

    steps: 0 for round(T * target / rate); leads of several rates must give the same.
    """
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    steps = steps or max(1, round(samples.shape[1] * target / rate))
    if rate == target:
        return samples
    # Beyond its ends the resampler sees zeros; an ECG with an offset would ring there.
    pad = _lead_in(rate, target)
    padded = np.pad(samples, ((0, 0), (pad, pad)), mode="edge")
    out = soxr.resample(np.ascontiguousarray(padded.T), rate, target, quality=RESAMPLER)
    first = round(pad * target / rate)
    return np.ascontiguousarray(out[first : first + steps].T)


@lru_cache(maxsize=64)
def _lead_in(rate: float, target: int) -> int:
    """Samples of a second or more that make a whole number of steps, else the first and all others
    would stand up to half a step beside their time."""
    second = max(1, round(rate))
    counts = np.arange(second, max(second, int(LONGEST_LEAD_IN * rate)) + 1)
    beside = np.abs(counts * target / rate - np.rint(counts * target / rate))
    close = np.flatnonzero(beside < 1e-3)
    return int(counts[close[0] if len(close) else beside.argmin()])


def refuse_odd_sizes(path: Path, rates: list[float], steps: int, seconds: float) -> None:
    """rates: Hz of every lead in the file. steps: canonical ones, of each lead."""
    odd = [rate for rate in rates if not LOWEST_HZ <= rate <= HIGHEST_HZ]
    if odd:
        raise UserError(
            f"{path}: {odd[0]:g} samples a second are no ECG's ({LOWEST_HZ:g} to {HIGHEST_HZ:g}); "
            "correct the rate in the header."
        )
    if FLOAT * max(steps * len(LEADS), seconds * sum(rates)) > most_bytes():
        raise UserError(
            f"{path}: {seconds / 3600:.1f} hours of {len(rates)} leads are too much to decode at "
            f"once, they do not fit in {words()}; give the recordings a start and a duration, "
            "lower sample_rate, or raise the limit."
        )


def bridged(
    samples: np.ndarray, rate: float, target: int, steps: int, longest: float
) -> tuple[np.ndarray | None, list[tuple[int, int]]]:
    """(T,) of one lead, NaN where missing -> ((1, steps) at ``target`` Hz, gaps); None: all NaN.

    gaps: (first step, last step + 1) of what is interpolated over more than ``longest`` seconds.
    """
    missing = ~np.isfinite(samples)
    if missing.all():
        return None, []
    gaps = [
        (math.floor(begin * target / rate), math.ceil(end * target / rate))
        for begin, end in runs(missing)
        if end - begin > longest * rate
    ]
    filled = interpolated(samples[None], missing[None])
    return resampled(filled, rate, target, steps), gaps


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
