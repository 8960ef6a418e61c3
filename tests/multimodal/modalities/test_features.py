"""Features from a cache are, to the bit, those that are computed of the signals in every batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from multimodal.modalities import audio, log_mel
from multimodal.modalities.audio import AudioConfig, AudioLogMel
from multimodal.modalities.log_mel import LogMel, valid_frames
from multimodal.modalities.speech import SpeechAdapter, SpeechConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache

CONFIGS = {
    "speech": [SpeechConfig(), SpeechConfig(n_mels=23, window_ms=32, hop_ms=7)],
    "audio": [AudioConfig(sample_rate=16_000), AudioConfig(sample_rate=16_000, seconds=0.5)],
}


def manifest(modality: str, count: int = 40) -> Manifest:
    rng = np.random.default_rng(3)
    lengths = [1, 1, 5, 100, 159, 160, 161, *rng.integers(1, 30_000, 40)][:count]
    sounds = [rng.uniform(-1, 1, (1, n)).astype(np.float32) for n in lengths]
    rows = [
        Recording(f"{i:03d}", (i % 2,), "train", make=lambda s=s: s) for i, s in enumerate(sounds)
    ]
    return Manifest("noise", modality, ("a", "b"), tuple(rows), "1", made_rate=16_000)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize(
    ("modality", "config"), [(m, c) for m, several in CONFIGS.items() for c in several]
)
def test_to_the_bit(tmp_path, modality: str, config: Any, folder: bool, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        table, adapter = manifest(modality), config.build()
        featured = adapter.with_features()
        place = tmp_path if folder else None
        signals = SignalCache(table, adapter, folder=place, progress=False)
        frames = SignalCache(table, featured, folder=place, progress=False)
        rng = np.random.default_rng(0)
        for size in (1, 2, 7, 40):
            rows = rng.permutation(len(table))[:size]
            whole = adapter.front_end()(signals.gather(rows))
            again = featured.front_end()(frames.gather(rows))
            assert torch.equal(whole.values, again.values)
            assert whole.values.stride() == again.values.stride()
            assert torch.equal(whole.lengths, again.lengths)
            assert signals.lengths(rows).tolist() == frames.lengths(rows).tolist()
        if not folder:
            assert frames.nbytes < 0.6 * signals.nbytes
    finally:
        torch.set_num_threads(before)


def test_caches_of_other_features_are_others(tmp_path) -> None:
    table = manifest("speech", 4)
    keys = set()
    for config in (
        SpeechConfig(),
        SpeechConfig(n_mels=20),
        SpeechConfig(hop_ms=5),
        SpeechConfig(window_ms=20),
    ):
        for adapter in (config.build(), config.build().with_features()):
            keys.add(adapter.fingerprint)
            SignalCache(table, adapter, folder=tmp_path, progress=False).ensure([0, 1])
    assert len(keys) == len(list(tmp_path.iterdir())) == 5  # signals do not depend on bands


def test_what_is_damaged_is_told_as_of_signals() -> None:
    table = manifest("speech", 3)
    bad = replace(table.recordings[1], make=lambda: np.full((1, 9), np.nan, dtype=np.float32))
    table = replace(table, recordings=(table.recordings[0], bad, table.recordings[2]))
    cache = SignalCache(
        table, SpeechConfig().build().with_features(), progress=False, skip_damaged=True
    )
    assert cache.usable([0, 1, 2]).tolist() == [0, 2]
    assert "NaN" in cache.damaged[1]


@pytest.mark.parametrize("normalise", ["mean", "mean_variance", "none"])
@pytest.mark.parametrize("kind", [LogMel, AudioLogMel])
def test_batches_without_padding_are_masked_by_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: Any, normalise: Any
) -> None:
    """What is left out of batches of one length, against a mask of ones."""
    settings = {"n_mels": 40, "window_ms": 25.0, "hop_ms": 10.0}
    front_end = kind(16_000, **settings)
    (front_end if kind is LogMel else front_end.log_mel).normalise = normalise
    values = torch.randn(5, 40, 101, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((5,), 101)
    assert valid_frames(values, lengths) is None
    short = front_end.finished(values, lengths).values
    for module in (log_mel, audio):
        monkeypatch.setattr(module, "valid_frames", lambda *_: torch.ones(5, 1, 101))
    assert torch.equal(front_end.finished(values, lengths).values, short)
    assert short.is_contiguous()
    shorter = valid_frames(values, lengths - 1)
    assert shorter is not None
    assert shorter.squeeze(1).sum(1).tolist() == [100.0] * 5


class Louder(LogMel):
    """Somebody's own front end, on ours."""

    def forward(self, batch: Any) -> Any:
        found = super().forward(batch)
        return found._replace(values=found.values + 1)


class OwnAdapter(SpeechAdapter):
    def front_end(self) -> Any:
        front = super().front_end()
        front.__class__ = Louder
        return front


def test_a_front_end_that_extends_ours_reads_signals() -> None:
    own = OwnAdapter(SpeechConfig())
    assert own.with_features() is own
    assert SpeechAdapter(SpeechConfig()).with_features() is not own


@pytest.mark.parametrize("seconds", [0.5, 4.1, 4.096, 9.0, 30.7])
@pytest.mark.parametrize("config", [SpeechConfig(), SpeechConfig(hop_ms=5, window_ms=32)])
def test_long_recordings_are_prepared_in_parts(monkeypatch, config: Any, seconds: float) -> None:
    """To the bit as at once."""
    signal = torch.randn(round(16_000 * seconds), 1, generator=torch.Generator().manual_seed(1))
    front_end = config.build().front_end()
    whole = front_end._log_mel(signal.T)[0]
    monkeypatch.setattr("multimodal.modalities.log_mel.AT_ONCE", 2**8)
    assert torch.equal(front_end.prepare(signal), whole)


@pytest.mark.parametrize(
    ("config", "smaller"),
    [
        (SpeechConfig(), True),
        (SpeechConfig(n_mels=80, hop_ms=5), True),
        (SpeechConfig(n_mels=81, hop_ms=5), False),
        (SpeechConfig(n_mels=80, hop_ms=2.5), False),
        (AudioConfig(sample_rate=16_000, n_mels=128, hop_ms=2, window_ms=32), False),
    ],
)
def test_what_is_held_is_the_smaller(config: Any, smaller: bool) -> None:
    modality = "speech" if isinstance(config, SpeechConfig) else "audio"
    table, adapter = manifest(modality, 13), config.build()
    caches = [SignalCache(table, a, progress=False) for a in (adapter, adapter.with_features())]
    for cache in caches:
        cache.ensure(range(7, 13))  # the longer ones
    held = [cache.nbytes for cache in caches]
    assert held[1] <= 1.05 * held[0]  # a frame more than hops
    assert (held[1] < held[0]) == (smaller and config.n_mels < 80)
