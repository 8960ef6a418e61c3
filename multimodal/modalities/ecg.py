"""ECG: any WFDB record -> (12, T) float32 in millivolts, leads ordered by name, at one rate.

Records name their leads, and data sets store them in different orders (MIMIC-IV-ECG has aVF before
aVL, record 114 of MIT-BIH has V5 before MLII), so a lead is found by its name and never by its
column. Amplitudes mean something in an ECG: nothing here scales a recording by its own range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import EcgAugmentConfig, refuse_idle_crop
from multimodal.modalities.budget import within_memory
from multimodal.modalities.ecg_leads import LEADS, Lead, lead_rows
from multimodal.modalities.ecg_signal import (
    RESAMPLER,
    EcgScale,
    band_passed,
    bridged,
    refuse_odd_sizes,
)
from multimodal.modalities.wfdb_files import (
    Header,
    check_sums,
    read_header,
    read_millivolts,
    stamp,
)
from multimodal.recordings import Recording
from multimodal.registry import Config

LARGEST_MV = 200.0
# Records of up to this many samples (all leads together) are decoded whole and remembered, as many
# beats are cut from each; of longer ones only the part is read, with this much on either side.
LARGEST_WHOLE, REMEMBERED, CONTEXT_SECONDS = 2**24, 4, 10.0
WORDS = {
    "N": "normal beat",
    "S": "supraventricular ectopic beat",
    "V": "ventricular ectopic beat",
    "F": "fusion of ventricular and normal beat",
    "Q": "paced or unclassifiable beat",
    "NORM": "normal ECG",
    "MI": "myocardial infarction",
    "STTC": "ST/T change",
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
}


@MODALITIES.register("ecg")
class EcgConfig(Config):
    """ECG signals and their scaled samples.

    sample_rate: Hz, 50 to 2,000; records at other rates are resampled (soxr, quality HQ).
    seconds: keep at most this much, from the start of each recording (None: all of it).
    band_pass: (low, high) in Hz, 0 < low < high < sample_rate / 2: Butterworth of order 2 forwards
    and backwards, so without delay; None: no filter. Beats are filtered before they are cut out.
    max_gap_seconds: missing samples (NaN) are interpolated over at most this long.
    lead_names: how records call a lead, e.g. {"ECG1": "II", "vx": null}; null leaves that signal
    out. The twelve names (any case) and MLI, MLII, MLIII are known.
    scale_mv: features are millivolts divided by this one constant; the default is the standard
    deviation over all leads and training samples in the official benchmark of PTB-XL. centre:
    subtract each lead's mean. lead_mask: append 12 channels that are 1 where a lead is there and 0
    where it is missing.
    augment: random changes of training batches, after ``seconds``; None: no changes.
    """

    sample_rate: int = Field(default=250, ge=50, le=2000)
    seconds: float | None = Field(default=None, gt=0, le=1e9)
    band_pass: tuple[float, float] | None = None
    max_gap_seconds: float = Field(default=0.1, ge=0, le=10)
    lead_names: dict[str, Lead | None] = Field(default_factory=dict)
    scale_mv: float = Field(default=0.239, gt=0, allow_inf_nan=False)
    centre: bool = True
    lead_mask: bool = False
    augment: EcgAugmentConfig | None = None

    @model_validator(mode="after")
    def _band_below_half_the_rate(self) -> Self:
        if self.band_pass is not None:
            low, high = self.band_pass
            if not 0 < low < high < self.sample_rate / 2:
                raise ValueError(
                    f"band_pass={list(self.band_pass)}: it needs 0 < low < high < sample_rate / 2 "
                    f"= {self.sample_rate / 2:g} Hz"
                )
        return self

    @model_validator(mode="after")
    def _crop_within_seconds(self) -> Self:
        refuse_idle_crop(self.augment, "seconds", self.seconds)
        return self

    def build(self) -> EcgAdapter:
        return EcgAdapter(self)


class _Decoded(NamedTuple):
    """signal: (k, T) float32 mV at the canonical rate, of the leads ``rows``, from ``begin`` s on.

    gaps: (first step, last step + 1, lead's row), where too many samples in a row were missing.
    """

    signal: np.ndarray
    rows: tuple[int, ...]
    begin: float
    gaps: tuple[tuple[int, int, int], ...]


class EcgAdapter:
    """Adapter of ECGs: canonical signal (12, T) float32 mV, leads in the order of ``LEADS``.

    Leads that a record does not have are zero, see ``missing_leads``. ``load`` may be called from
    several threads. The last four records that parts were cut from stay decoded in memory.
    """

    length_axis = -1
    axes = 1
    dtype = torch.float32

    def __init__(self, config: EcgConfig) -> None:
        self.config = config
        self._lock = Lock()
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._decode)

    def __reduce__(self) -> tuple[Callable[..., EcgAdapter], tuple[EcgConfig]]:
        # For worker processes, which get neither the lock nor the decoded records.
        return EcgAdapter, (self.config,)

    @property
    def channels(self) -> int:
        return len(LEADS) * (2 if self.config.lead_mask else 1)

    @property
    def fingerprint(self) -> str:
        c = self.config
        return (
            f"ecg/2 rate={c.sample_rate} seconds={c.seconds} band_pass={c.band_pass} "
            f"max_gap={c.max_gap_seconds} lead_names={sorted(c.lead_names.items())} mV "
            f"soxr={RESAMPLER}"
        )

    @within_memory
    def load(self, recording: Recording) -> Tensor:
        """Decode, filter, resample, and cut to the recording's part and ``seconds``.

        ``recording.path`` names the record with or without .hea, .dat or .mat. A part that reaches
        past the end of the signal ends there. An array from ``recording.make`` must be (12, T) mV
        at the canonical rate; it is only cut. A lead without any sample counts as missing.

        Returns (12, T), T >= 1. UserError: missing, empty or truncated files, not a WFDB record,
        unknown lead names or units, no sample in the part, no lead with a sample, gaps longer than
        ``max_gap_seconds``, amplitudes beyond 200 mV.
        """
        decoded = self._made(recording) if recording.make is not None else self._read(recording)
        first, count = self._part(recording, decoded)
        for begin, end, row in decoded.gaps:
            if begin < first + count and end > first:
                raise UserError(
                    f"{recording.where}: lead {LEADS[row]} misses {end - begin} samples in a row "
                    f"at {decoded.begin + begin / self.config.sample_rate:.2f} s; raise "
                    "max_gap_seconds or leave the recording out."
                )
        cut = decoded.signal[:, first : first + count]
        peak = float(np.abs(cut).max())
        if peak > LARGEST_MV:
            raise UserError(
                f"{recording.where}: the signal reaches {peak:g} mV, no ECG does; correct the gain "
                "or the unit in the header."
            )
        signal = torch.zeros(len(LEADS), count)
        signal[list(decoded.rows)] = torch.from_numpy(cut)
        return signal

    def missing_leads(self, recording: Recording) -> tuple[str, ...]:
        """Names of the leads that the record's header does not list (reads the header only)."""
        path = _existing(recording)
        header = _header(path, stamp(path))
        found = {row for _, row in lead_rows(header.names, self.config.lead_names, path)}
        return tuple(lead for row, lead in enumerate(LEADS) if row not in found)

    def front_end(self) -> nn.Module:
        """``EcgScale``: Batch -> Features (N, 12 or 24, T)."""
        c = self.config
        return EcgScale(scale_mv=c.scale_mv, centre=c.centre, lead_mask=c.lead_mask)

    def augment(self) -> nn.Module | None:
        """``EcgAugment``: Batch -> Batch, or None."""
        c = self.config
        return None if c.augment is None else c.augment.build(c.sample_rate)

    def describe(self, class_name: str) -> list[str]:
        """AAMI beat classes and PTB-XL superclasses are spelled out."""
        words = WORDS.get(class_name, class_name.replace("_", " ").strip())
        return [words, f"An ECG that shows: {words}.", f"This electrocardiogram shows {words}."]

    def _part(self, recording: Recording, decoded: _Decoded) -> tuple[int, int]:
        """First step and number of steps to keep of ``decoded``; UserError if there is none."""
        rate, steps = self.config.sample_rate, decoded.signal.shape[1]
        first = round((recording.start - decoded.begin) * rate)
        count = steps - first
        for limit in (recording.duration, self.config.seconds):
            if limit is not None:
                count = min(count, round(limit * rate))
        if first < 0 or count < 1:
            raise UserError(
                f"{recording.where}: no sample lies in the part start={recording.start:g}, "
                f"duration={recording.duration} of a signal that ends at "
                f"{decoded.begin + steps / rate:.3f} s; correct the recording's start and duration."
            )
        return first, count

    def _made(self, recording: Recording) -> _Decoded:
        assert recording.make is not None
        array = np.asarray(recording.make(), dtype=np.float32)
        if array.ndim != 2 or array.shape[0] != len(LEADS) or not array.size:
            raise UserError(
                f"{recording.where}: the made array has shape {array.shape}; an ECG is (12, T), "
                "T >= 1, in millivolts."
            )
        if not np.isfinite(array).all():
            raise UserError(f"{recording.where}: the made array has NaN or infinite samples.")
        return _Decoded(array, tuple(range(len(LEADS))), 0.0, ())

    def _read(self, recording: Recording) -> _Decoded:
        path = _existing(recording)
        version = stamp(path)
        header = _header(path, version)
        if recording.start == 0 and recording.duration is None:
            return self._decode(path, version, 0, header.frames)
        if header.frames * sum(header.per_frame) <= LARGEST_WHOLE:
            with self._lock:  # else every thread would decode the same record
                return self._remembered(path, version, 0, header.frames)
        _intact(path, version)
        first = max(0, math.floor((recording.start - CONTEXT_SECONDS) * header.rate))
        last = header.frames
        if recording.duration is not None:
            end = recording.start + recording.duration + CONTEXT_SECONDS
            last = min(last, math.ceil(end * header.rate))
        if first >= last:
            raise UserError(
                f"{recording.where}: start={recording.start:g} lies behind the end of the signal "
                f"({header.frames / header.rate:.3f} s); correct the recording's start."
            )
        return self._decode(path, version, first, last)

    def _decode(self, path: Path, version: tuple[int, ...], first: int, last: int) -> _Decoded:
        """Frames [first, last) of the file; ``version`` only tells versions of it apart."""
        header, target = _header(path, version), self.config.sample_rate
        pairs = lead_rows(header.names, self.config.lead_names, path)
        rates = [header.rate * header.per_frame[column] for column, _ in pairs]
        steps = max(1, round((last - first) * target / header.rate))
        refuse_odd_sizes(path, rates, steps, (last - first) / header.rate)
        rows, gaps, signals = [], [], []
        leads = read_millivolts(header, first, last, [column for column, _ in pairs])
        for (_, row), rate, samples in zip(pairs, rates, leads, strict=True):
            signal, bad = bridged(samples, rate, target, steps, self.config.max_gap_seconds)
            if signal is not None:
                rows.append(row)
                signals.append(signal)
                gaps += [(begin, end, row) for begin, end in bad]
        if not rows:
            raise UserError(f"{path}: no lead has a single sample (all NaN); remove or replace it.")
        signal = np.concatenate(signals)
        if self.config.band_pass is not None:
            signal = band_passed(signal, self.config.band_pass, target)
        return _Decoded(signal, tuple(rows), first / header.rate, tuple(gaps))


@lru_cache(maxsize=64)
def _header(path: Path, version: tuple[int, ...]) -> Header:
    return read_header(path)


@lru_cache(maxsize=4096)
def _intact(path: Path, version: tuple[int, ...]) -> None:
    """Once for a record that is read in parts, none of which shows the sums in its header."""
    check_sums(_header(path, version))


def _existing(recording: Recording) -> Path:
    if recording.path is None:
        raise UserError(f"{recording.where}: neither a file nor a made array; give it a path.")
    return recording.path
