"""The synthetic sounds: deterministic, canonical, honest splits, events that are as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.synthetic.audio import (
    BACKGROUNDS,
    CAPTIONS,
    KINDS,
    RATE,
    SECONDS,
    Event,
    SyntheticAudioConfig,
    caption,
    clip,
    events,
    render,
)
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig
from multimodal.recordings import Manifest

NOWHERE = Path("nowhere")
# Every 5,000th sample of the clip in the test below.
GOLDEN = [0.0014, 0.0009, -0.0079, -0.0048, -0.0021, 0.0352, -0.0736, -0.0997]
CASES = [(name, seed) for name in KINDS for seed in range(6)]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return SyntheticAudioConfig(train_per_class=20, test_per_class=8).build(NOWHERE)


def clips(manifest: Manifest, split: str) -> np.ndarray:
    made = [manifest.recordings[i].make for i in manifest.indices(split)]
    return np.stack([make() for make in made if make is not None])


def alone(name: str, seed: int, **changes: float) -> tuple[Event, np.ndarray]:
    """An event and its samples, from onset to offset."""
    event = events((name,), (seed, 0, 0, 0))[0]._replace(**changes)
    sound = render([event], SECONDS)
    return event, sound[round(event.onset * RATE) : round(event.offset * RATE)]


def strongest(sound: np.ndarray, low: float = 0, high: float = RATE / 2) -> float:
    """Hz of the highest peak of the spectrum between two frequencies."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 4 * RATE))
    power[: round(4 * low)] = power[round(4 * high) :] = 0
    return int(np.argmax(power)) / 4


def test_is_registered_and_called_synthetic(manifest: Manifest) -> None:
    assert DATASETS.config("synthetic_audio") is SyntheticAudioConfig
    assert SyntheticAudioConfig.synthetic
    assert manifest.synthetic
    assert manifest.modality == "audio"
    assert not NOWHERE.exists()


def test_counts_classes_and_scenes(manifest: Manifest) -> None:
    assert manifest.class_names == tuple(CAPTIONS) == tuple(KINDS)
    assert manifest.num_classes == 10
    for split, count in (("train", 20), ("test", 8)):
        labels = manifest.labels[manifest.indices(split)]
        assert np.bincount(labels, minlength=10).tolist() == [count] * 10
    groups = {s: set(manifest.groups[manifest.indices(s)]) for s in ("train", "test")}
    assert not groups["train"] & groups["test"]
    backgrounds = {name for name, _ in BACKGROUNDS}
    for split in groups:
        texts = [manifest.recordings[i].text for i in manifest.indices(split)]
        assert {text.split(", over ")[1] for text in texts} == backgrounds


def test_clips_are_in_the_canonical_form(manifest: Manifest) -> None:
    adapter = AudioConfig(sample_rate=RATE).build()
    for r in manifest.recordings[::37]:
        assert r.make is not None
        sound = r.make()
        assert (sound.shape, sound.dtype) == ((1, 20_000), np.float32)
        assert 0.09 < np.abs(sound).max() < 0.51
        np.testing.assert_array_equal(adapter.load(r).numpy(), sound)


def test_another_sample_rate_gives_the_same_sound_and_another_version() -> None:
    half, full = (
        SyntheticAudioConfig(train_per_class=1, test_per_class=1, sample_rate=rate).build(NOWHERE)
        for rate in (RATE, 2 * RATE)
    )
    assert half.content_hash != full.content_hash
    for a, b in zip(half, full, strict=True):
        assert a.make is not None
        assert b.make is not None
        assert b.make().shape == (1, 40_000)
        np.testing.assert_allclose(_low(b.make()[0], 40_000), _low(a.make()[0], 20_000), atol=0.01)


def _low(sound: np.ndarray, samples: int) -> np.ndarray:
    """The spectrum up to 7 kHz, where no resampling filter acts, relative to its largest value."""
    spectrum = np.abs(np.fft.rfft(sound))[:8750] / samples
    return spectrum / spectrum.max()


def test_same_config_same_clips_and_another_seed_others(manifest: Manifest) -> None:
    again = SyntheticAudioConfig(train_per_class=20, test_per_class=8).build(NOWHERE)
    assert again.content_hash == manifest.content_hash
    np.testing.assert_array_equal(clips(again, "test"), clips(manifest, "test"))
    assert len({sound.tobytes() for sound in clips(manifest, "train")}) == 200
    other = SyntheticAudioConfig(seed=1, train_per_class=20, test_per_class=8).build(NOWHERE)
    assert other.content_hash != manifest.content_hash
    assert (clips(other, "test") != clips(manifest, "test")).mean() > 0.9


def test_more_clips_leave_the_first_ones_as_they_are(manifest: Manifest) -> None:
    known = {r.uid: r for r in manifest}
    for r in SyntheticAudioConfig(train_per_class=3, test_per_class=2).build(NOWHERE):
        same = known[r.uid]
        assert (same.text, same.group, same.labels) == (r.text, r.group, r.labels)
        assert r.make is not None
        assert same.make is not None
        np.testing.assert_array_equal(r.make(), same.make())


def test_one_clip_does_not_change_with_the_version() -> None:
    sound = clip(("siren", "knocks"), 3, (0, 0, 0, 0), RATE)
    # FFTs of other builds differ in the last bits.
    assert sound[0, ::5000].tolist() == pytest.approx(GOLDEN, abs=1e-3), "raise GENERATOR_VERSION"


def test_the_events_of_a_recording_can_be_asked_for(manifest: Manifest) -> None:
    config = SyntheticAudioConfig()
    for r in manifest.recordings[::7]:
        (event,) = config.events(r.uid)
        assert event.name == manifest.class_names[r.label]
        said = [phrase.partition("{}")[2] or phrase for phrase in CAPTIONS[event.name]]
        assert any(words in r.text for words in said)


@pytest.mark.parametrize("uid", ["bell_0001", "validation/bell_0001", "train/drum_0001", ""])
def test_events_of_an_unknown_recording(uid: str) -> None:
    with pytest.raises(UserError, match=r"no recording .* valid: train/bell_0007"):
        SyntheticAudioConfig().events(uid)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(tuple(KINDS)), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_events_are_in_order_apart_and_in_their_ranges(names: list[str], seed: int) -> None:
    heard = events(names, (seed, 1, 0, 7))
    assert [event.name for event in heard] == names
    for place, event in enumerate(heard):
        kind = KINDS[event.name]
        assert SECONDS * place <= event.onset < event.offset <= SECONDS * (place + 1)
        assert kind.seconds[0] <= event.offset - event.onset <= kind.seconds[1] + 1e-9
        assert kind.pitch[0] <= event.pitch <= kind.pitch[1]
        assert kind.rate[0] <= event.rate <= kind.rate[1]
    assert clip(names, 0, (seed, 1, 0, 7), RATE).shape == (1, 20_000 * len(names))


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_an_event_is_heard_from_onset_to_offset_at_its_level(name: str, seed: int) -> None:
    event, sound = alone(name, seed)
    whole = render([event], SECONDS)
    assert np.count_nonzero(whole) == np.count_nonzero(sound)
    assert 20 * np.log10(np.sqrt(np.mean(sound**2))) == pytest.approx(event.level, abs=0.2)
    # The longest pause within is that between two knocks.
    edge = round(0.4 * RATE)
    assert np.abs(sound[:edge]).max() > 0
    assert np.abs(sound[-edge:]).max() > 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["rising_sweep", "falling_sweep"])
def test_sweeps_go_their_way_through_their_pitch(name: str, seed: int) -> None:
    event, sound = alone(name, seed)
    tenth = len(sound) // 10
    start, end = strongest(sound[: 2 * tenth]), strongest(sound[-2 * tenth :])
    assert (end > 1.3 * start) == (name == "rising_sweep")
    assert (start > 1.3 * end) == (name == "falling_sweep")
    middle = strongest(sound[9 * tenth // 2 : 11 * tenth // 2])
    assert middle == pytest.approx(event.pitch, rel=0.1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["hum", "bell"])
def test_hums_and_bells_have_their_pitch(name: str, seed: int) -> None:
    event, sound = alone(name, seed)
    found = strongest(sound, event.pitch / 1.4, event.pitch * 1.4)
    assert found == pytest.approx(event.pitch, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["siren", "warble", "chirps", "knocks", "engine"])
def test_repetitions_have_their_rate(name: str, seed: int) -> None:
    """The swing of the pitch, or of the loudness, repeats with the period of the rate."""
    event, sound = alone(name, seed)
    width = 400 if name in ("siren", "warble", "chirps") else 100
    frames = sound[: len(sound) // width * width].reshape(-1, width)
    if name in ("siren", "warble"):
        curve = np.array(
            [np.log(strongest(frame, event.pitch / 2, event.pitch * 2)) for frame in frames]
        )
    else:
        curve = np.sqrt(np.mean(frames**2, axis=1))
    power = np.abs(np.fft.rfft((curve - curve.mean()) * np.hanning(len(curve)), 4096))
    frequency = np.fft.rfftfreq(4096, width / RATE)
    near = (frequency > 0.6 * event.rate) & (frequency < 1.6 * event.rate)
    assert frequency[near][np.argmax(power[near])] == pytest.approx(event.rate, rel=0.25)
    assert power[near].max() > 0.4 * power.max()


def test_captions_join_events_and_name_pitch_tempo_and_background() -> None:
    siren, bell = events(("siren", "bell"), (0, 0, 0, 0))
    heard = (siren._replace(rate=1.4, pitch=501.0), bell._replace(pitch=1199.0))
    texts = {caption(heard, 5, np.random.default_rng(seed)) for seed in range(20)}
    assert "a slow siren, low pitch, then a bell, high pitch, over soft noise" in texts
    assert len(texts) == 4
    fast = (siren._replace(rate=2.8, pitch=800.0),)
    assert "fast" in caption(fast, 0, np.random.default_rng(0))
    assert "medium pitch, over a deep rumble" in caption(fast, 0, np.random.default_rng(0))


def test_backgrounds_sound_as_they_are_called() -> None:
    """The centre of the spectrum before the event, over all scenes of a kind, rises in order."""
    late = [s for s in range(200) if events(("knocks",), (0, 0, 0, s))[0].onset > 0.3][:32]
    centres = np.zeros(4)
    for number, seed in enumerate(late):
        sound = clip(("knocks",), number, (0, 0, 0, seed), RATE)[0, : round(0.3 * RATE)]
        power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
        octaves = np.log2(np.maximum(np.fft.rfftfreq(len(sound), 1 / RATE), 50))
        centres[number % 4] += np.sum(power * octaves) / np.sum(power) / 8
    assert (np.diff(centres) > 0.5).all()


def test_a_linear_probe_on_raw_samples_stays_below_60_percent() -> None:
    manifest = SyntheticAudioConfig(train_per_class=50, test_per_class=25).build(NOWHERE)
    train, test = (clips(manifest, s)[:, 0] for s in ("train", "test"))
    labels = [manifest.labels[manifest.indices(s)] for s in ("train", "test")]
    # Ridge regression on one-hot labels, in its dual form: 500 clips are fewer than samples.
    kernel = train @ train.T + 10 * np.eye(len(train))
    weights = np.linalg.solve(kernel, np.eye(10)[labels[0]] - 0.1)
    assert ((test @ train.T @ weights).argmax(1) == labels[1]).mean() < 0.6


@pytest.mark.parametrize(
    "fields", [{"num_classes": 1}, {"num_classes": 11}, {"seed": -1}, {"sample_rate": 4000}]
)
def test_config_refuses(fields: dict) -> None:
    with pytest.raises(ValidationError):
        SyntheticAudioConfig.parse(fields)
