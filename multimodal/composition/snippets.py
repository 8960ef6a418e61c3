"""The part of a recording that is its event: without silence at its ends, cut where it is quiet."""

from __future__ import annotations

import numpy as np

from multimodal.composition.levels import ACTIVE_DB, frame_powers
from multimodal.errors import UserError

FRAME = 0.01  # seconds
MARGIN = 1  # frames kept at both ends
SILENCE = 1e-10  # mean power of the loudest frame that is still silence (-100 dB of full scale)
QUIET = 0.1  # share of the longest allowed part in which a cut looks for the quietest frame


def active_part(
    signal: np.ndarray,
    rate: int,
    *,
    longest: float,
    below_peak_db: float = ACTIVE_DB,
    where: str = "a recording",
) -> tuple[int, int]:
    """(start, stop) samples of the event in (1, T) samples at ``rate`` Hz.

    From the first to the last frame of 10 ms whose power is within ``below_peak_db`` of the loudest
    one's, with a frame more at each end. Of what is longer than ``longest`` seconds the stretch
    with most energy that has the loudest frame is taken, and each end that is then a cut is moved
    inwards, by at most a tenth of ``longest``, to the quietest frame.
    UserError for a silent recording, which ``where`` names.
    """
    size = max(1, round(FRAME * rate))
    powers = frame_powers(signal[0], size)
    peak = int(powers.argmax())
    if not powers[peak] > SILENCE:
        raise UserError(f"{where}: silent, no event can be cut out of it; leave it out.")
    active = np.flatnonzero(powers >= powers[peak] * 10 ** (-below_peak_db / 10))
    first = max(0, int(active[0]) - MARGIN)
    last = min(len(powers), int(active[-1]) + 1 + MARGIN)
    most = int(longest * rate) // size
    if last - first > most:
        first, last = _cut(powers, first, last, peak, max(1, most))
    return first * size, min(last * size, signal.shape[1])


def _cut(powers: np.ndarray, first: int, last: int, peak: int, most: int) -> tuple[int, int]:
    """At most ``most`` frames of [first, last) around the peak."""
    energy = np.concatenate([[0.0], np.cumsum(powers)])
    starts = np.arange(max(first, peak - most + 1), min(peak, last - most) + 1)
    start = int(starts[(energy[starts + most] - energy[starts]).argmax()])
    stop, slack = start + most, int(QUIET * most)
    if start > first:
        start += int(powers[start : min(start + slack, peak) + 1].argmin())
    if stop < last:
        tail = powers[max(stop - slack, peak + 1) : stop]
        stop -= int(tail[::-1].argmin()) if len(tail) else 0
    return start, stop
