from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.composition.snippets import active_part
from multimodal.errors import UserError

RATE = 1000  # frames of 10 samples


def signal(*stretches: tuple[int, float]) -> np.ndarray:
    """(1, T): stretches of so many samples of an amplitude, alternating in sign."""
    levels = np.concatenate([np.full(count, level) for count, level in stretches])
    return (levels * (-1.0) ** np.arange(len(levels)))[None].astype(np.float32)


def test_silence_at_the_ends_goes_but_for_a_frame() -> None:
    x = signal((300, 0.0), (500, 0.5), (100, 0.0), (200, 0.3), (400, 0.0))
    assert active_part(x, RATE, longest=9) == (290, 1110)
    assert active_part(signal((500, 0.5)), RATE, longest=9) == (0, 500)
    assert active_part(signal((505, 0.5)), RATE, longest=9) == (0, 505)  # a rest of a frame


def test_the_threshold_is_relative_to_the_peak() -> None:
    x = signal((300, 0.001), (300, 0.1), (300, 0.001))
    for scale in (1, 5, 0.1):
        assert active_part(scale * x, RATE, longest=9, below_peak_db=30) == (290, 610)
        assert active_part(scale * x, RATE, longest=9, below_peak_db=50) == (0, 900)


def test_what_is_too_long_is_cut_around_the_loudest_part() -> None:
    x = signal((3000, 0.1), (200, 0.5), (3000, 0.1))
    start, stop = active_part(x, RATE, longest=2)
    assert 1000 <= start <= 3000
    assert 3200 <= stop <= 5200
    assert 1600 <= stop - start <= 2000


def test_a_cut_is_at_the_quietest_frame_near() -> None:
    stretches = [(500, 0.5), (370, 0.1), (10, 0.05), (2120, 0.1)]  # quiet: [870, 880)
    assert active_part(signal(*stretches), RATE, longest=0.9) == (0, 880)
    assert active_part(signal(*stretches[::-1]), RATE, longest=0.9) == (2120, 3000)
    # Too far from the end of the stretch of 1.5 s to be looked at.
    assert active_part(signal(*stretches), RATE, longest=1.5) == (0, 1500)


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.floats(0.05, 3))
def test_a_part_is_within_bounds_and_has_the_peak(seed: int, longest: float) -> None:
    rng = np.random.default_rng(seed)
    levels = np.repeat(10 ** rng.uniform(-3, 0, int(rng.integers(2, 400))), 10)
    levels = levels[: int(rng.integers(11, len(levels) + 1))]
    x = rng.choice([-1.0, 1.0], size=(1, len(levels))) * levels
    start, stop = active_part(x, RATE, longest=longest)
    peak = int(np.abs(x[0]).argmax())
    assert 0 <= start <= peak < stop <= x.shape[1]
    assert stop - start <= max(10, longest * RATE)
    loud = np.flatnonzero(np.abs(x[0]) >= np.abs(x[0]).max() * 10 ** (-30 / 20) * 1.0001)
    if loud[-1] - loud[0] < longest * RATE - 40:  # nothing had to be cut
        assert start <= loud[0]
        assert stop > loud[-1]
        assert start >= loud[0] - 20
        assert stop <= loud[-1] + 21


def test_silence_is_refused_by_name() -> None:
    for x in (np.zeros((1, 500)), np.full((1, 500), 1e-6)):
        with pytest.raises(UserError, match=r"door\.wav: silent"):
            active_part(x, RATE, longest=1, where="door.wav")
    with pytest.raises(UserError, match="silent"):
        active_part(np.full((1, 500), np.nan), RATE, longest=1)
