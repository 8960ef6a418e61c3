from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multimodal.composition.audio import Clips, clips_of, render, sounds
from multimodal.composition.draw import draw
from multimodal.composition.levels import a_weighted_level, active_level
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.scenes import Scenes
from multimodal.composition.speech import SpeechComposerConfig
from multimodal.composition.twins import twins
from multimodal.datasets.esc10 import Esc10Config
from multimodal.datasets.fsdd import FsddConfig
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.multimodal.composition.pools import pool_of

RATE = 1000
POOL = pool_of(60)
PAIRED = ComposerConfig(paired=True)


def noise(pool: Pool, seed: int = 0) -> Clips:
    rng = np.random.default_rng(seed)
    scales = 10 ** rng.uniform(-3, 0, len(pool))
    sizes = pool.lengths.tolist()
    parts = [s * rng.normal(size=n) for s, n in zip(scales, sizes, strict=True)]
    return clips_of([part.astype(np.float32) for part in parts], pool.rate)


CLIPS = noise(POOL)


def oracle(scenes: Scenes, row: int, clips: Clips) -> np.ndarray:
    """Sample by sample, in float64."""
    out, fade = [0.0] * int(scenes.totals[row]), int(scenes.fade[row])
    for slot, snippet in enumerate(scenes.snippets[row].tolist()):
        if snippet < 0:
            continue
        sound = clips.values[clips.offsets[snippet] : clips.offsets[snippet + 1]].tolist()
        gain = 10 ** (scenes.gain_db[row, slot] / 20) / 10 ** (clips.levels[snippet] / 20)
        for copy in range(int(scenes.loops[row, slot])):
            for i, value in enumerate(sound):
                edge = min(i, len(sound) - 1 - i)
                ramp = edge / fade if edge < fade else 1.0
                at = int(scenes.onsets[row, slot]) + copy * len(sound) + i
                out[at] += gain * ramp * value
    peak = max(map(abs, out))
    return np.array([0.5 * value / peak for value in out])


@pytest.mark.parametrize("paired", [False, True])
def test_sound_is_the_oracles(paired: bool) -> None:
    scenes = draw(POOL, ComposerConfig(paired=paired), 40, 5)
    assert (scenes.loops > 1).any()
    rows = np.random.default_rng(0).permutation(40)[:25]
    found = render(scenes, rows, CLIPS)
    assert found.values.shape == (25, 1, scenes.totals[rows].max())
    assert found.lengths.tolist() == scenes.totals[rows].tolist()
    for values, length, row in zip(
        found.values, found.lengths.tolist(), rows.tolist(), strict=True
    ):
        np.testing.assert_allclose(values[0, :length], oracle(scenes, row, CLIPS), atol=1e-6)
        assert not values[0, length:].any()


def test_peaks_silence_outside_events_and_equal_bytes() -> None:
    scenes = draw(POOL, PAIRED, 60, 0)
    one, two = render(scenes, range(60), CLIPS), render(scenes, range(60), CLIPS)
    assert one.values.numpy().tobytes() == two.values.numpy().tobytes()
    np.testing.assert_allclose(one.values.abs().amax((1, 2)), 0.5, atol=1e-6)
    for row in range(60):
        heard = np.zeros(one.values.shape[2], dtype=bool)
        for on, off, s in zip(
            scenes.onsets[row], scenes.offsets[row], scenes.snippets[row], strict=True
        ):
            if s >= 0:
                heard[on:off] = True
        sound = one.values[row, 0].numpy()
        assert not sound[~heard].any()
        assert np.mean(sound[heard] != 0) > 0.95


def test_events_are_the_same_in_a_scene_and_its_twin() -> None:
    """What is rendered of either event of A+B is the same in B+A, but for its place."""
    config = ComposerConfig(expressions={"A+B": 1.0})
    scenes = draw(POOL, config, 20, 0)
    pair = [render(s, range(20), CLIPS).values for s in (scenes, twins(scenes, POOL, config))]
    other = twins(scenes, POOL, config)
    for row in range(20):
        for slot in (0, 1):
            a, b = (
                values[row, 0, s.onsets[row, slot] : s.offsets[row, slot]]
                for values, s in zip(pair, (scenes, other), strict=True)
            )
            assert (a == b).all()
            assert (a != 0).any()


def test_levels_are_equal_but_for_the_drawn_difference() -> None:
    scenes = draw(POOL, ComposerConfig(expressions={"A+B": 1.0}, fade=0.0), 20, 0)
    found = render(scenes, range(20), CLIPS)
    for row in range(20):
        levels = [
            a_weighted_level(found.values[row, 0, on:off].numpy(), RATE)
            for on, off in zip(scenes.onsets[row], scenes.offsets[row], strict=True)
        ]
        drawn = scenes.gain_db[row]
        assert levels[0] - levels[1] == pytest.approx(drawn[0] - drawn[1], abs=0.01)
    assert np.ptp(CLIPS.levels) > 40


def test_joins_do_not_tell_which_scene_is_the_reversed_one() -> None:
    """A linear probe on level and spectrum at both sides of the join, trained on half the pairs."""
    config = ComposerConfig(expressions={"A+B": 1.0}, snippet_seconds=(1.0, 5.0))
    scenes = draw(POOL, config, 300, 0)
    pairs = [scenes, twins(scenes, POOL, config)]
    features = []
    for member in pairs:
        values = render(member, range(300), CLIPS).values[:, 0].numpy()
        for row in range(300):
            ends = member.offsets[row].min(), member.onsets[row].max()
            sides = values[row, ends[0] - 200 : ends[0]], values[row, ends[1] : ends[1] + 200]
            bands = [np.log(np.abs(np.fft.rfft(x))[1:].reshape(10, 10).mean(1)) for x in sides]
            features.append(np.concatenate([*bands, [1.0]]))
    x = np.stack(features).reshape(2, 300, -1)
    target = np.repeat([-1.0, 1.0], 150)
    weights = np.linalg.lstsq(np.concatenate(x[:, :150]), target, rcond=None)[0]
    right = np.mean(np.sign(np.concatenate(x[:, 150:]) @ weights) == target)
    assert 0.4 < right < 0.6  # 300 answers: chance is 0.5 with a standard error of 0.03


def test_clips_of_another_pool_are_a_fault() -> None:
    scenes = draw(POOL, PAIRED, 2, 0)
    with pytest.raises(AssertionError, match="other clips"):
        render(scenes, [0], noise(pool_of(60, seed=1)))


def cache(signals: dict[str, np.ndarray], groups: str = "") -> SignalCache:
    """Recordings named "class/..."."""
    names = tuple(sorted({uid.split("/")[0] for uid in signals}))
    recordings = tuple(
        Recording(
            uid=uid,
            labels=(names.index(uid.split("/")[0]),),
            split="train",
            group=groups,
            make=lambda signal=signal: signal[None].astype(np.float32),
        )
        for uid, signal in signals.items()
    )
    manifest = Manifest("toy", "speech", names, recordings, "1", made_rate=RATE)
    return SignalCache(manifest, SpeechConfig(sample_rate=RATE).build(), progress=False)


def burst(before: int, loud: int, after: int, level: float = 0.3) -> np.ndarray:
    return np.concatenate([np.zeros(before), np.full(loud, level), np.zeros(after)])


def test_a_pool_of_recordings() -> None:
    found = cache({"dog/1": burst(500, 1500, 0), "rain/1": burst(0, 3000, 700, 0.1)})
    phrases = {"dog": "a dog barking", "rain": "rain"}
    pool, clips = sounds(found, [0, 1], RATE, ComposerConfig(), phrases=phrases)
    assert pool.starts.tolist() == [490, 0]
    assert pool.lengths.tolist() == [1510, 3010]
    assert pool.phrases == ("a dog barking", "rain")
    assert pool.sources == ("dog/1", "rain/1")
    assert pool.names == ("dog", "rain")
    assert clips.offsets.tolist() == [0, 1510, 4520]
    np.testing.assert_allclose(clips.values[10:1510], 0.3, atol=1e-7)
    assert clips.levels[0] == a_weighted_level(clips.values[:1510], RATE)
    scenes = draw(pool, ComposerConfig(expressions={"A+B": 1.0}), 5, 0)
    assert render(scenes, range(5), clips).values.isfinite().all()


def test_what_no_pool_can_be_made_of() -> None:
    found = cache(
        {
            **{"dog/1": burst(500, 500, 0), "dog/2": burst(500, 0, 0), "rain/1": burst(0, 9, 9)},
            "rain/2": burst(9, 0, 500),
        }
    )
    phrases = {"dog": "a dog", "rain": "rain"}
    with pytest.raises(UserError, match="phrases: none for rain; give each"):
        sounds(found, [0], RATE, ComposerConfig(), phrases={"dog": "a dog"})
    with pytest.raises(UserError, match="dog/2: silent"):
        sounds(found, [0, 1], RATE, ComposerConfig(), phrases=phrases)
    with pytest.raises(UserError, match=r"dog/2: silent.*\nrain/2: silent"):
        sounds(found, [0, 1, 2, 3], RATE, ComposerConfig(), phrases=phrases)
    with pytest.raises(UserError, match="from 1; no event of 'toy' lasts that long"):
        sounds(found, [0, 2], RATE, ComposerConfig(), phrases=phrases)


def test_speech_is_levelled_by_what_is_said_and_pauses_between_words() -> None:
    rng = np.random.default_rng(0)
    words = {
        f"{word}/{i}": np.concatenate(
            [rng.normal(0, 0.1, 200), np.zeros(i * 40), np.ones(100) * 0.1]
        )
        for word in ("three", "seven", "nine")
        for i in range(4)
    }
    config = SpeechComposerConfig(expressions={"A+B": 1.0})
    said = lambda recording: f"a woman says {recording.uid.split('/')[0]}"  # noqa: E731
    pool, clips = sounds(
        cache(words, "ann"), range(12), RATE, config, phrases=said, level=active_level
    )
    assert clips.levels[0] == active_level(clips.values[: clips.offsets[1]], RATE)
    assert set(pool.sources) == {"ann"}
    scenes = draw(pool, config, 100, 0)
    gaps = (
        np.sort(scenes.onset_seconds, axis=1)[:, 1] - np.sort(scenes.offset_seconds, axis=1)[:, 0]
    )
    assert 0.05 <= gaps.min() < 0.1 < 0.25 < gaps.max() <= 0.3
    assert all(text.count("a woman says ") == 2 for text in scenes.captions)
    with pytest.raises(UserError, match="sources 'voices'"):  # there is no second talker
        draw(pool, SpeechComposerConfig(expressions={"A*B": 1.0}), 5, 0)


@pytest.mark.realdata
def test_real_digits_follow_each_other_by_one_speaker(real_data: Path) -> None:
    manifest = FsddConfig().build(real_data / "fsdd")
    signals = SignalCache(manifest, SpeechConfig(sample_rate=8000).build(), progress=False)
    rows = np.arange(0, 3000, 25)
    config = SpeechComposerConfig()
    words = {name: name for name in manifest.class_names}
    pool, clips = config.open(signals, rows, phrases=words)
    assert len(pool) == len(rows)
    scenes = draw(pool, config, 60, 0)
    found = render(scenes, range(60), clips)
    np.testing.assert_allclose(found.values.abs().amax((1, 2)), 0.5, atol=1e-6)
    for row, text in enumerate(scenes.captions):
        who = {pool.sources[i] for i in scenes.snippets[row].tolist() if i >= 0}
        name = scenes.expressions[scenes.expression[row]]
        assert len(who) == (2 if "*" in name else 1), text


@pytest.mark.realdata
def test_real_sounds_are_trimmed(real_data: Path) -> None:
    from multimodal.modalities.audio import AudioConfig

    manifest = Esc10Config().build(real_data / "esc10")
    signals = SignalCache(manifest, AudioConfig(sample_rate=16_000).build(), progress=False)
    rows = np.arange(0, 400, 20)
    config = ComposerConfig(snippet_seconds=(0.2, 9.5))
    words = {name: name.replace("_", " ") for name in manifest.class_names}
    pool, clips = sounds(signals, rows, 16_000, config, phrases=words)
    assert (pool.lengths <= signals.lengths(pool.recordings)).all()
    assert (pool.lengths < signals.lengths(pool.recordings)).any()
    scenes = draw(pool, config, 10, 0)
    assert render(scenes, range(10), clips).values.isfinite().all()
