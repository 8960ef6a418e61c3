"""Work ahead: in order, and never more bytes waiting than allowed."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal import ahead
from multimodal.ahead import AHEAD, done_ahead
from multimodal.modalities.audio import AudioConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache


class Watched:
    """Work whose results have given sizes: how many bytes of them are alive, and were at most."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.alive, self.peak, self.most = sizes, 0, 0, 0
        self._lock = threading.RLock()

    def __call__(self, item: int) -> np.ndarray:
        result = np.zeros(self.sizes[item], dtype=np.uint8)
        with self._lock:
            self.alive += result.nbytes
            self.peak = max(self.peak, self.alive)
        weakref.finalize(result, self._gone, result.nbytes)
        return result

    def _gone(self, size: int) -> None:
        with self._lock:
            self.alive -= size


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 10, 300, 1000]), max_size=60),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 500, 10**6]),
)
def test_what_waits_is_bounded(sizes: list[int], workers: int, most: int) -> None:
    work = Watched(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "AHEAD_BYTES", most)
        found = 0
        for place, result in enumerate(done_ahead(range(len(sizes)), work, workers=workers)):
            assert result.nbytes == sizes[place]  # in order
            found += 1
            del result
    assert found == len(sizes)
    # One more result for each worker, what is asked for next, and what has just been given.
    assert work.peak <= most + (workers + 2) * max(sizes, default=0)
    assert work.peak <= (AHEAD * workers + 2) * max(sizes, default=0)


def test_without_the_bound_much_more_would_wait(monkeypatch) -> None:
    peaks = []
    for most in (1000, 10**9):
        monkeypatch.setattr(ahead, "AHEAD_BYTES", most)
        work = Watched([1000] * 60)
        for _ in done_ahead(range(60), work, workers=4):
            time.sleep(0.002)  # others run meanwhile
        peaks.append(work.peak)
    assert peaks[0] <= 7_000
    assert peaks[1] > 15_000


def test_errors_and_leaving_early_end_the_threads() -> None:
    before = threading.active_count()

    def fails(item: int) -> int:
        if item == 5:
            raise KeyError(item)
        return item

    with pytest.raises(KeyError):
        list(done_ahead(range(100), fails, workers=4))
    results = done_ahead(range(100), Watched([10**7] * 100), workers=4)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("crop", ["centre", "start"])
def test_a_crop_does_not_hold_its_recording(features: bool, crop: Any) -> None:
    made = Recording("0", (0,), "train", make=lambda: np.zeros((1, 60 * 16000), np.float32))
    manifest = Manifest("n", "audio", ("a",), (made,), "1", made_rate=16000)
    adapter = AudioConfig(sample_rate=16000, seconds=1, crop=crop).build()
    taken = adapter.with_features() if features else adapter
    signal = SignalCache(manifest, taken, progress=False)._decode(0)
    assert not isinstance(signal, str)
    assert signal.untyped_storage().nbytes() == signal.nbytes == 64_000
