"""Synthetic spoken commands: phrase tables, plan, noise, files, determinism, cache, errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import wave
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.synthetic import speech, spoken
from multimodal.datasets.synthetic.phrases import PHRASES
from multimodal.datasets.synthetic.speech import SyntheticSpeechConfig, plan
from multimodal.datasets.synthetic.spoken import Synthesizer, add_noise
from multimodal.errors import UserError

TINY = {"num_intents": 3, "train_per_intent": 4, "test_per_intent": 2}
pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")


def tiny(**changes: int) -> SyntheticSpeechConfig:
    return SyntheticSpeechConfig.parse({**TINY, **changes})


def digest(folder: Path) -> str:
    """One hash over every file's name and bytes."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def samples(path: Path) -> tuple[wave._wave_params, np.ndarray]:
    """Header and samples, read by the standard library."""
    with wave.open(str(path)) as file:
        return file.getparams(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("speech")
    return root, tiny().build(root)


def test_phrase_tables_are_large_and_disjoint():
    said: list[str] = []
    for intent, (train, test) in PHRASES.items():
        assert intent.islower()
        assert intent.isidentifier()
        assert len(train) >= 8
        assert len(test) >= 3
        assert set(" ".join(test).split()) <= set(" ".join(train).split())
        said += [text.lower() for text in train + test]
    assert len(said) == len(set(said)) >= 12 * 11, "a phrasing stands twice"


def test_default_plan_has_the_sizes_it_promises():
    counts = Counter((r.intent, r.split) for r in plan(SyntheticSpeechConfig()))
    assert counts == {(i, s): n for i in PHRASES for s, n in (("train", 60), ("test", 15))}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 60))
def test_plan_is_disjoint_and_in_range(seed, train, test):
    config = tiny(seed=seed, train_per_intent=train, test_per_intent=test)
    rows = plan(config)
    assert rows == plan(config)
    assert len({r.uid for r in rows}) == len(rows) == 3 * (train + test)
    of = {split: [r for r in rows if r.split == split] for split in ("train", "test")}
    for side, half in enumerate(of.values()):
        assert len({(r.intent, r.text, r.voice) for r in half}) == len(half)
        assert all(r.text in PHRASES[r.intent][side] for r in half)
    speakers = [{r.voice.split("+")[1] for r in half} for half in of.values()]
    assert not speakers[0] & speakers[1]
    assert all(140 <= r.rate <= 200 and 35 <= r.pitch <= 65 and 50 <= r.volume <= 80 for r in rows)
    assert all(15 <= r.snr <= 30 and 0 <= r.lead <= 0.2 for r in rows)


def test_another_seed_draws_other_combinations():
    assert not {r[3:] for r in plan(tiny(seed=0))} & {r[3:] for r in plan(tiny(seed=1))}


@settings(max_examples=30, deadline=None)
@given(st.floats(-10, 40), st.integers(0, 500), st.integers(1, 2000))
def test_noise_has_the_asked_snr_and_starts_before_the_speech(snr, lead, length):
    tone = 0.3 * np.sin(np.arange(1, length + 1))
    noisy = add_noise(tone, snr=snr, lead=lead, rng=np.random.default_rng(length))
    noise = noisy - np.concatenate([np.zeros(lead), tone])
    assert noisy.shape == (lead + length,)
    measured = 10 * np.log10(np.mean(tone**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr, abs=1e-6)


def test_manifest(made):
    root, manifest = made
    assert manifest.name == "synthetic_speech"
    assert (manifest.modality, manifest.synthetic) == ("speech", True)
    assert manifest.class_names == tuple(PHRASES)[:3]
    assert Counter(manifest.splits) == {"train": 12, "test": 6}
    assert manifest.group_overlap == ""  # so the leak checker ran
    assert manifest.version.startswith(f"{speech.GENERATOR_VERSION}+espeak-ng-1.")
    assert "espeak-ng" in manifest.licence
    assert "disjoint" in manifest.split_rule
    for r in manifest:
        train, test = PHRASES[manifest.class_names[r.label]]
        assert r.text in (train if r.split == "train" else test)
        assert r.path == root / tiny().cache_key / r.uid


def test_files_are_16_khz_mono_pcm16_and_sound(made):
    _, manifest = made
    leads = {r.uid: r.lead for r in plan(tiny())}
    for r in manifest:
        assert r.path is not None
        header, x = samples(r.path)
        assert (header.nchannels, header.sampwidth, header.framerate) == (1, 2, 16_000)
        assert 0.5 < len(x) / 16_000 < 3
        peak = np.abs(x.astype(int)).max()
        assert 1000 < peak < 32767
        quiet = x[: round(leads[r.uid] * 16_000)].astype(float)
        if len(quiet) > 100:
            assert 0 < np.sqrt(np.mean(quiet**2)) < peak / 4


def test_rate_pitch_and_volume_reach_the_voice():
    synthesizer = Synthesizer()

    def say(text: str, rate: int = 150, pitch: int = 50, volume: int = 70) -> np.ndarray:
        return synthesizer.say(text, voice="en-us+m1", rate=rate, pitch=pitch, volume=volume)

    alarm = "set an alarm"
    assert fundamental(say("aaaah", pitch=80)) > 1.3 * fundamental(say("aaaah", pitch=20))
    assert len(say(alarm, rate=140)) > 1.2 * len(say(alarm, rate=200))
    assert np.std(say(alarm, volume=80)) > 1.5 * np.std(say(alarm, volume=40))
    synthesizer.close()


def fundamental(x: np.ndarray) -> float:
    """Hz, the highest peak of the autocorrelation between 50 and 400 Hz; x at 22.05 kHz."""
    middle = x[len(x) // 4 : len(x) // 4 + 4410]
    correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    return 22050 / (55 + int(np.argmax(correlation[55:441])))


def test_same_seed_gives_the_same_bytes_whatever_was_said_before(made, tmp_path):
    root, _ = made
    tiny(seed=7).build(tmp_path / "other")
    again = tiny().build(tmp_path / "again")
    assert again.root is not None
    assert digest(again.root) == digest(root / tiny().cache_key)
    other = tmp_path / "other" / tiny(seed=7).cache_key
    assert digest(other) != digest(root / tiny().cache_key)


def test_same_seed_gives_the_same_bytes_in_another_process(made, tmp_path):
    root, _ = made
    code = (
        "import sys; from pathlib import Path\n"
        "from multimodal.datasets import DATASETS\n"
        f"DATASETS.parse({{'name': 'synthetic_speech', **{TINY}}}).build(Path(sys.argv[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "5"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    assert digest(tmp_path / tiny().cache_key) == digest(root / tiny().cache_key)


def test_voices_sound_different_and_exist():
    voices = {r.voice for r in plan(SyntheticSpeechConfig())}
    with closing(Synthesizer()) as it:
        said = {it.say("lights", voice=v, rate=170, pitch=50, volume=70).tobytes() for v in voices}
    assert len(said) == len(voices) == len(spoken.ACCENTS) * 13


@pytest.mark.parametrize("voice", ["en-us+nobody", "xx-none+f1"])
def test_an_unknown_voice_is_not_replaced_silently(voice):
    with closing(Synthesizer()) as it, pytest.raises(AssertionError, match="no v"):
        it.say("hello", voice=voice, rate=170, pitch=50, volume=70)


def test_the_set_is_made_once(made, monkeypatch):
    root, manifest = made

    def refuse() -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(spoken, "_wheel", refuse)
    assert tiny().build(root) == manifest


def test_the_key_names_every_setting_but_root(monkeypatch):
    keys = {tiny().cache_key, *(tiny(**{name: 5}).cache_key for name in ("seed", *TINY))}
    assert len(keys) == 5
    assert SyntheticSpeechConfig(root="elsewhere", **TINY).cache_key == tiny().cache_key
    monkeypatch.setattr(speech, "GENERATOR_VERSION", "other")
    assert tiny().cache_key not in keys


def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    say, calls = Synthesizer.say, []

    def interrupted(self, *args, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return say(self, *args, **options)

    monkeypatch.setattr(Synthesizer, "say", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny().build(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(tiny().build(tmp_path)) == 18


def test_a_set_made_meanwhile_by_another_process_is_used(made, tmp_path, monkeypatch):
    root, _ = made
    write = spoken._write

    def late(folder, utterances, synthesizer, version):
        write(folder, utterances, synthesizer, version)
        (root / tiny().cache_key).rename(tmp_path / tiny().cache_key)

    monkeypatch.setattr(spoken, "_write", late)
    try:
        assert len(tiny().build(tmp_path)) == 18
        assert [p.name for p in tmp_path.iterdir()] == [tiny().cache_key]
    finally:
        (tmp_path / tiny().cache_key).rename(root / tiny().cache_key)


def test_without_the_wheel_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError) as caught:
        tiny().build(tmp_path)
    assert "install the extra 'offline'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_damage_and_unwritable_root_are_the_users(tmp_path):
    manifest = tiny().build(tmp_path)
    folder = tmp_path / tiny().cache_key
    first = manifest.recordings[0].path
    assert first is not None
    first.unlink()
    with pytest.raises(UserError, match="1 of its wav files are missing; delete the folder"):
        tiny().build(tmp_path)
    (folder / spoken.INDEX).write_text("{")
    with pytest.raises(UserError, match=r"index\.json cannot be read; delete the folder"):
        tiny().build(tmp_path)
    with pytest.raises(UserError, match=r"cannot be written .*Not a directory.*name another place"):
        tiny().build(folder / spoken.INDEX)


def test_a_library_or_data_that_cannot_be_read(tmp_path, monkeypatch):
    library, data = spoken._wheel()
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(spoken, "_wheel", lambda: (broken, data))
    with pytest.raises(UserError, match=r"cannot load .* set TMPDIR"):
        Synthesizer()
    monkeypatch.setattr(spoken, "_wheel", lambda: (library, tmp_path))
    with pytest.raises(UserError, match=r"cannot read its data .* install espeakng-loader again"):
        Synthesizer()


LIMITS = {
    "seed": (-1, 2**32, "0"),
    "num_intents": (1, len(PHRASES) + 1),
    "train_per_intent": (0, 401),
    "test_per_intent": (0, 61),
    "accent": ("en",),
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f in LIMITS for v in LIMITS[f]])
def test_bad_settings_are_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        DATASETS.parse({"name": "synthetic_speech", field: value})


def test_registered_with_what_the_listing_shows():
    config = DATASETS.parse("synthetic_speech")
    assert isinstance(config, SyntheticSpeechConfig)
    assert (config.folder, config.synthetic, config.modalities) == ("", True, ("speech",))
    assert config.summary
    assert "GPL-3.0" in config.licence
    assert "the extra 'offline'" in config.how_to_get
    assert SyntheticSpeechConfig.parse({k: v for k, v in config.dump().items() if k != "name"})
