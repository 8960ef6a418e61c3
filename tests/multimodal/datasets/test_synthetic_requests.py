"""Synthetic requests: meanings kept apart, words heard, the same bytes for the same settings."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.datasets import DATASETS
from multimodal.datasets.synthetic.requests import SyntheticRequestsConfig, plan, splits_of
from multimodal.datasets.synthetic.requests_grammar import DOMAINS, MEANINGS, say
from multimodal.evaluation.prompts import load_prompts


def test_the_grammar_has_304_meanings_of_six_domains() -> None:
    assert (len(MEANINGS), len(DOMAINS)) == (304, 6)
    assert len({m.name for m in MEANINGS}) == 304
    wordings = Counter(w for m in MEANINGS for w in m.wordings)
    assert max(wordings.values()) == 1


@given(seed=st.integers(0, 1000), held=st.integers(1, 6), validation=st.integers(1, 6))
def test_held_out_meanings_are_new_and_their_words_are_not(seed, held, validation) -> None:
    config = SyntheticRequestsConfig(seed=seed, held_out=held, validation_meanings=validation)
    splits = splits_of(config)
    assert {k: len(v) for k, v in splits.items()} == {
        "train": 304 - 6 * (held + validation),
        "validation": 6 * validation,
        "test": 6 * held,
    }
    assert sorted(m.name for side in splits.values() for m in side) == sorted(
        m.name for m in MEANINGS
    )
    actions = {(m.domain, m.action) for m in splits["train"]}
    objects = {(m.domain, m.object) for m in splits["train"]}
    for meaning in splits["validation"] + splits["test"]:
        assert (meaning.domain, meaning.action) in actions
        assert (meaning.domain, meaning.object) in objects


def test_splits_share_neither_meanings_nor_voices() -> None:
    rows = plan(SyntheticRequestsConfig(train_utterances=600, test_per_meaning=2))
    assert len({row.uid for row in rows}) == len(rows) == 600 + 2 * 24 * 2
    for what in ("intent", "voice"):
        sides = {
            s: {getattr(r, what) for r in rows if r.split == s} for s in {r.split for r in rows}
        }
        assert sum(map(len, sides.values())) == len(set().union(*sides.values()))
    assert {row.split for row in rows} == {"train", "validation", "test"}
    counts = Counter(row.intent for row in rows if row.split == "train")
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_request_is_a_wording_with_words_around_it() -> None:
    rng = np.random.default_rng(0)
    said = [say(MEANINGS[0], rng) for _ in range(300)]
    assert all(any(w in text for w in MEANINGS[0].wordings) for text in said)
    assert not any(text.startswith("please") and text.endswith("please") for text in said)
    assert any(text in MEANINGS[0].wordings for text in said)
    assert len(set(said)) > 100


def test_the_phrases_are_the_first_wordings() -> None:
    prompts = load_prompts("speech_intent", "spoken_requests")
    assert prompts.phrases == {m.name: m.wordings[0] for m in MEANINGS}


def test_the_same_config_makes_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    fields = {"train_utterances": 300, "test_per_meaning": 1, "held_out": 1}
    config = DATASETS.parse({"name": "synthetic_requests", "validation_meanings": 1, **fields})
    assert isinstance(config, SyntheticRequestsConfig)
    manifest = config.build(tmp_path / "a")
    assert Counter(manifest.splits) == {"train": 300, "validation": 6, "test": 6}
    assert manifest.class_names == tuple(m.name for m in MEANINGS)
    assert all(r.text and r.group for r in manifest)
    again = config.build(tmp_path / "b")
    for one, other in zip(manifest, again, strict=True):
        assert one.path is not None
        assert other.path is not None
        digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (one.path, other.path)}
        assert len(digests) == 1
