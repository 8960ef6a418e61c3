"""The part of a signal that is wanted, and what is kept of it while it is decoded."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from multimodal.errors import UserError
from multimodal.modalities.budget import PASSED, most_bytes, words

# No recording of sound is made outside; a damaged header may state anything up to 2**32 Hz.
BEYOND = 1e12  # seconds: no recording is as long
LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000
FLOAT = 4  # bytes; 1 GiB is 4.6 hours at 16 kHz, 1.7 hours at 44.1 kHz


@dataclass(frozen=True)
class Part:
    """where: the file's name in messages. start, duration: seconds, of the recording.

    limit: keep at most this many seconds, and up to one sample more (None: all).
    target: Hz of the signal that is made of it; bounds its length, too.
    """

    where: str
    start: float
    duration: float | None
    limit: float | None
    target: int

    def frames(self, rate: int) -> tuple[int, int | None]:
        """The first sample and the one after the last; None: to the end, wherever that is."""
        first, count = round(min(self.start, BEYOND) * rate), None
        if self.duration is not None:
            count = round(min(self.duration, BEYOND) * rate)
        if self.limit is not None:
            most = math.ceil(min(self.limit, BEYOND) * rate)
            count = most if count is None else min(count, most)
        return first, None if count is None else first + count

    def nothing(self, total: int, rate: int) -> UserError:
        """For a part without a sample of a signal of ``total`` samples."""
        return UserError(
            f"{self.where}: no sample lies in the part start={self.start:g}, "
            f"duration={self.duration} of a signal of {total / rate:.3f} s; correct the "
            "recording's start and duration."
        )

    def fits(self, count: int, rate: int) -> bool:
        """Whether ``count`` samples, and what they become at ``target`` Hz, are not too many."""
        return FLOAT * max(count, count * self.target / rate) <= most_bytes()

    def refuse_long(self, count: int, rate: int) -> None:
        """UserError if ``count`` samples, or what they become at ``target`` Hz, are too many."""
        if not self.fits(count, rate):
            raise UserError(
                f"{self.where}: {count / rate:,.0f} s of sound at {rate} Hz do not fit in "
                f"{words()}; give the recording a start and a duration, raise the limit, or "
                "replace the file if it is damaged."
            )


class Kept:
    """What of a signal, given piece by piece from its beginning, lies in the part.

    position: samples that went by. What is kept is bounded by ``most_bytes``, and what is decoded
    before it by ``PASSED`` times as much.
    """

    def __init__(self, part: Part, rate: int) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(
                f"{part.where}: its header states {rate} Hz; sound is recorded at {LOWEST_RATE:,} "
                f"to {HIGHEST_RATE:,} Hz; replace the damaged file or correct its header."
            )
        self.part, self.rate, self.position = part, rate, 0
        self.first, self._stop = part.frames(rate)
        if self.first < 0 or (self._stop is not None and self._stop <= self.first):
            self.first, self._stop = sys.maxsize, None  # nothing is kept; ``joined`` says so
        self._pieces = list[np.ndarray]()
        self._count = self._decoded = 0

    def wanted(self) -> int | None:
        """Samples still to come until the part is complete; None: all."""
        return None if self._stop is None else max(0, self._stop - self.position)

    def refuse_long(self, announced: int) -> None:
        """UserError if the part is too long in a signal that has ``announced`` samples more."""
        wanted = self.wanted()
        count = announced if wanted is None else min(wanted, announced)
        self.part.refuse_long(count - max(0, self.first - self.position), self.rate)

    @property
    def complete(self) -> bool:
        return self.wanted() == 0

    def skip(self, count: int) -> None:
        """Samples before the part that the decoder left out."""
        self.position += count

    def add(self, samples: np.ndarray) -> None:
        """(n, channels) or (n,) float32; channels are mixed to their mean."""
        self._decoded += FLOAT * samples.size
        if self._decoded > PASSED * most_bytes():
            raise UserError(
                f"{self.part.where}: {self._decoded / 2**30:,.0f} GiB of sound were decoded "
                f"without coming to the end of what is wanted, {PASSED} times {words()}; split "
                "the file, or raise the limit."
            )
        begin = min(len(samples), max(0, self.first - self.position))
        wanted = self.wanted()
        end = len(samples) if wanted is None else min(len(samples), wanted)
        self.position += len(samples)
        piece = samples[begin:end]
        if not len(piece):
            return
        self._count += len(piece)
        self.part.refuse_long(self._count, self.rate)
        if piece.ndim == 2:
            piece = piece[:, 0] if piece.shape[1] == 1 else piece.mean(axis=1)
        self._pieces.append(piece)

    def add_silence(self, count: int) -> None:
        while count > 0 and not self.complete:
            step = min(count, 2**20)
            self.add(np.zeros(step, dtype=np.float32))
            count -= step

    def joined(self) -> np.ndarray:
        """(T,) float32, T >= 1; UserError if the part holds no sample."""
        if not self.position:
            raise UserError(f"{self.part.where}: the file holds no samples; remove or replace it.")
        if not self._count:
            raise self.part.nothing(self.position, self.rate)
        return self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
