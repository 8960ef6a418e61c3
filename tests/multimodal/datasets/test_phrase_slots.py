"""Slots of the synthetic speakers' phrases, and of the set that they speak."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.synthetic import spoken
from multimodal.datasets.synthetic.phrase_slots import TYPES, WORDS, slots_of
from multimodal.datasets.synthetic.phrases import PHRASES
from multimodal.datasets.synthetic.speech import SyntheticSpeechConfig

TINY = {"num_intents": 2, "train_per_intent": 3, "test_per_intent": 1}


def test_values_are_words_of_the_phrase_one_behind_the_other() -> None:
    assert slots_of("set the alarm for half past six") == (
        ("object", "alarm"),
        ("time", "half past six"),
    )
    assert slots_of("tell me the time") == slots_of("play the next song") == ()
    for phrase in (p for sides in PHRASES.values() for side in sides for p in side):
        words, start = phrase.split(), 0
        for kind, value in slots_of(phrase):
            assert value in WORDS[kind]
            parts = value.split()
            at = [i for i in range(start, len(words)) if words[i : i + len(parts)] == parts]
            start = at[0] + len(parts)


def test_every_value_is_said_and_of_one_type() -> None:
    said = [slots_of(p) for sides in PHRASES.values() for side in sides for p in side]
    assert sum(map(len, WORDS.values())) == len(TYPES)
    assert {slot for slots in said for slot in slots} == {(k, v) for v, k in TYPES.items()}
    assert sum(len(slots) >= 2 for slots in said) >= 30
    assert max(map(len, said)) == 3


def test_most_intents_have_slots_and_tests_bring_no_new_ones() -> None:
    having = 0
    for train, test in PHRASES.values():
        of_train, of_test = ({s for p in side for s in slots_of(p)} for side in (train, test))
        having += bool(of_test)
        assert of_test <= of_train
    assert having == len(PHRASES) - 2  # next_song and tell_time name nothing


def test_slots_are_told_of_the_same_files(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    plain = SyntheticSpeechConfig.parse(TINY).build(tmp_path)
    monkeypatch.setattr(spoken, "_wheel", None)  # nothing is made again
    manifest = SyntheticSpeechConfig.parse({**TINY, "slots": True}).build(tmp_path)
    assert plain.slots is None
    assert manifest.slots == tuple(slots_of(r.text) for r in plain)
    assert [r.path for r in manifest] == [r.path for r in plain]
    assert manifest.content_hash != plain.content_hash


def test_the_folder_and_the_settings_of_earlier_sets_stay() -> None:
    plain, config = SyntheticSpeechConfig(), SyntheticSpeechConfig(slots=True)
    assert plain.cache_key == config.cache_key == "2d762c6169c6213a"
    assert "slots" not in plain.dump()
    assert DATASETS.parse(config.dump()) == config
