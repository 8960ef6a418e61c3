"""Is a test clip part of the training pool? Fingerprints of sound that survive cuts and codecs.

Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: every 11.6 ms the
energies E of 33 bands, 300 to 2000 Hz, over 0.37 s give 32 bits,

    bit(n, m) = [E(n, m) - E(n, m+1) - (E(n-1, m) - E(n-1, m+1)) > 0],

which a change of level leaves as they are. Two clips overlap if, at some offset, the share of bits
that differ is small. Candidates are the pairs of clips with an equal word of 32 bits; their error
is then measured at every offset.

Where we deviate. The paper compares blocks of 256 words and allows an error of 0.35, nine standard
deviations (three times those of independent bits) under the 0.5 of unrelated sounds; we allow nine
of them for any number of words, so a short overlap must agree better (0.20 of 64 words, about
1.1 s). Words near silence are compared with nothing: padding would match padding. A clip that is
played faster, or that lies under another one as loud, is not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from multimodal.errors import UserError

RATE = 5_500  # Hz to which everything is resampled
FRAME, HOP = 2_048, 64  # samples: 0.37 s and 11.6 ms
BITS = 32
SILENCE_DB = 60  # under the loudest frame of the clip
FEWEST = 64  # words of an overlap: 64 hops and a frame are 1.1 s
DEVIATIONS = 27.0  # of independent bits, below the error of 0.5 that unrelated sounds have
_EDGES = np.floor(np.geomspace(300, 2_000, BITS + 2) / RATE * FRAME).astype(np.int64)  # bins
_FRAMES_AT_ONCE = 1_024


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """words: (W,) uint32, one every 11.6 ms. heard: (W,) bool, False near silence."""

    words: np.ndarray
    heard: np.ndarray


@dataclass(frozen=True)
class Overlap:
    """pairs: (clip of the training pool, test clip), ascending, that share a stretch of sound.
    errors: the share of bits that differ, of each pair at its best offset, below 0.5. offsets:
    seconds after the start of the training clip at which the test clip starts (negative: before).
    unchecked: test clips in which too little is heard, 1.1 s at least, to find them anywhere.
    """

    pairs: tuple[tuple[int, int], ...]
    errors: tuple[float, ...]
    offsets: tuple[float, ...]
    unchecked: tuple[int, ...]

    @property
    def count(self) -> int:
        """Test clips that overlap with the training pool."""
        return len({test for _, test in self.pairs})


def fingerprint(signal: np.ndarray | Tensor, sample_rate: int) -> Fingerprint:
    """signal: (T,) or (1, T), decoded mono, any level. UserError: other shapes, NaN, under 4 kHz.

    Under 0.4 s there are no words.
    """
    samples = np.asarray(signal, dtype=np.float64)
    samples = samples[0] if samples.ndim == 2 and len(samples) == 1 else samples
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise UserError(
            f"a signal of shape {samples.shape} has no fingerprint; give one channel of finite "
            "samples."
        )
    if sample_rate < 4_000:
        raise UserError(f"sample_rate={sample_rate}: fingerprints need 4000 Hz or more.")
    sound = _resampled(samples, sample_rate)
    if len(sound) < FRAME + HOP:
        return Fingerprint(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=bool))
    frames = sliding_window_view(sound, FRAME)[::HOP]
    parts = range(0, len(frames), _FRAMES_AT_ONCE)
    energy = np.concatenate([_energies(frames[i : i + _FRAMES_AT_ONCE]) for i in parts])
    bits = np.diff(np.diff(energy, axis=1), axis=0) < 0
    words = np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
    loudness = energy.sum(axis=1)
    floor = max(loudness.max() * 10 ** (-SILENCE_DB / 10), np.finfo(np.float64).tiny)
    return Fingerprint(words, np.minimum(loudness[1:], loudness[:-1]) > floor)


def overlap(train: Sequence[Fingerprint], test: Sequence[Fingerprint]) -> Overlap:
    """Every pair of a clip of the training pool and a test clip of which one holds a part of the
    other. Time: one sort of all words, then about a millisecond for each candidate of some seconds.
    """
    found = []
    for i, j in _candidates(train, test):
        match = _best_offset(train[i], test[j])
        if match is not None:
            found.append(((int(i), int(j)), *match))
    few = tuple(j for j, clip in enumerate(test) if clip.heard.sum() < FEWEST)
    pairs, errors, offsets = zip(*found, strict=True) if found else ((), (), ())
    return Overlap(pairs, errors, offsets, few)


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """At RATE, cut off in frequency: what is above its half is not looked at anyhow."""
    length = round(len(samples) * RATE / rate)
    if length == 0:
        return samples[:0]
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return np.fft.irfft(spectrum, length)


def _energies(frames: np.ndarray) -> np.ndarray:
    """(F, FRAME) -> (F, 33)."""
    low, high = _EDGES[0], _EDGES[-1]
    spectrum = np.fft.rfft(frames * np.hanning(FRAME))[:, low:high]
    return np.add.reduceat(spectrum.real**2 + spectrum.imag**2, _EDGES[:-1] - low, axis=1)


def _candidates(train: Sequence[Fingerprint], test: Sequence[Fingerprint]) -> np.ndarray:
    """(P, 2) pairs of clips that have an equal word, ascending."""
    known, seen = _words(train), _words(test)
    first = np.searchsorted(known >> 32, seen >> 32, side="left")
    number = np.searchsorted(known >> 32, seen >> 32, side="right") - first
    own = np.repeat(np.arange(len(seen)), number)
    other = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + first[own]
    pairs = (known[other] & 0xFFFFFFFF) << 32 | seen[own] & 0xFFFFFFFF
    distinct = np.unique(pairs)
    return np.stack([distinct >> 32, distinct & 0xFFFFFFFF], axis=1)


def _words(clips: Sequence[Fingerprint]) -> np.ndarray:
    """uint64, ascending: each distinct word that is heard in a clip, above the clip's number."""
    keys = [
        clip.words[clip.heard].astype(np.uint64) << 32 | np.uint64(i)
        for i, clip in enumerate(clips)
    ]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *keys]))


def _best_offset(train: Fingerprint, test: Fingerprint) -> tuple[float, float] | None:
    """(error, offset in seconds) where the bits agree best; None if they do so nowhere."""
    length = 1 << (len(train.words) + len(test.words)).bit_length()
    one, two = (np.fft.rfft(_signs(clip), length, axis=0) for clip in (train, test))
    products = one * two.conj()
    agreement = np.fft.irfft(products[:, :BITS].sum(axis=1), length)  # equal minus different bits
    compared = BITS * np.round(np.fft.irfft(products[:, BITS], length))
    deviations = np.where(
        compared >= BITS * FEWEST, agreement / np.sqrt(np.maximum(compared, 1)), -np.inf
    )
    best = int(deviations.argmax())
    if deviations[best] < DEVIATIONS:
        return None
    error = max(0.0, (1 - agreement[best] / compared[best]) / 2)
    words = best if best < len(train.words) else best - length
    return float(error), words * HOP / RATE


def _signs(clip: Fingerprint) -> np.ndarray:
    """(W, 33): +1 or -1 for each bit, 0 where nothing is heard; then 1 where something is."""
    bits = clip.words[:, None] >> np.arange(BITS, dtype=np.uint32) & 1
    signs = 2.0 * bits - 1
    return np.concatenate([signs, np.ones((len(signs), 1))], axis=1) * clip.heard[:, None]
