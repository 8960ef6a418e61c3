from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np
import pytest

from multimodal.composition.captions import written
from multimodal.composition.draw import draw
from multimodal.composition.expressions import has_overlay, parse
from multimodal.composition.lexicons import LEXICONS, LexiconName, Wording, draw_wordings
from multimodal.composition.meanings import meaning
from multimodal.composition.plan import ComposerConfig
from multimodal.composition.twins import benchmark_items, twins
from multimodal.errors import UserError
from tests.multimodal.composition.oracles import read, said
from tests.multimodal.composition.pools import pool_of
from tests.multimodal.composition.trees import all_trees

POOL = pool_of()
SEQUENCES = {"A+B": 0.5, "A+B+C": 0.5}


def test_captions_of_sound_are_what_they_were_before_there_were_other_words() -> None:
    scenes = draw(POOL, ComposerConfig(paired=True), 300, 11)
    items = benchmark_items(POOL, ComposerConfig(), 100, seed=5).scenes
    found = [
        hashlib.sha256(json.dumps([s.positives, s.negatives, s.hashes]).encode()).hexdigest()[:32]
        for s in (scenes, items)
    ]
    assert found == ["e6864e76bd0e3d3f2b2ad57cbf591d25", "7fc86f7b0dedb2f4fbaf9e1646ccb678"]


@pytest.mark.parametrize("count", [2, 3])
def test_places_are_read_in_one_way(count: int) -> None:
    for tree, word in itertools.product(set(all_trees(count)), LEXICONS["space"].order):
        if not has_overlay(tree):
            text = written(tree, Wording(word, ""), "ABC")
            assert meaning(read(text), "ABC") == meaning(tree, "ABC"), text


def test_words_say_who_is_on_the_left() -> None:
    tree, said_so = parse("A+B"), ["rain", "a dog"]
    assert written(tree, Wording("to the left of", ""), said_so) == "rain to the left of a dog"
    assert written(tree, Wording("right of", ""), said_so) == "a dog right of rain"


@pytest.mark.parametrize("name", ["order", "space"])
def test_without_words_for_it_nothing_is_said_to_be_at_the_same_time(name: LexiconName) -> None:
    config = ComposerConfig(expressions=SEQUENCES, lexicon=name)
    scenes = draw(POOL, config, 100, 0)
    others = twins(scenes, POOL, config)
    words = np.unique(scenes.wordings[:, 0])
    assert len(words) == len(LEXICONS[name].order)
    assert not scenes.wordings[:, 1].any()
    for mine in (scenes, others):
        assert not any("*" in t for trees in mine.negative_trees for t in trees)
        for row in range(100):
            times = np.stack([mine.onset_seconds[row], mine.offset_seconds[row]], axis=1).tolist()
            phrases = [POOL.phrases[i] for i in mine.snippets[row].tolist() if i >= 0]
            assert mine.negatives[row]
            assert all(said(text, phrases, times) for text in mine.positives[row])
            assert all(said(text, phrases, times) is False for text in mine.negatives[row])
            assert len(set(mine.positives[row])) == len(mine.positives[row]) > 1


def test_overlays_are_refused_where_no_word_says_them() -> None:
    sequences = ComposerConfig(expressions=SEQUENCES, lexicon="space", paired=True)
    refusal = "no words for what is at the same time; compose with '\\+' only"
    with pytest.raises(UserError, match=f"'A\\*B': its captions have {refusal}"):
        draw(POOL, ComposerConfig(expressions={"A*B": 1.0}, lexicon="space"), 3)
    with pytest.raises(UserError, match=refusal):
        twins(draw(POOL, sequences, 3), POOL, sequences, kind="overlaid")
    items = benchmark_items(POOL, sequences, 20, triplets=1.0).items
    assert {len(item) for item in items} == {2}


def test_a_lexicon_of_one_word_has_no_other() -> None:
    rng = np.random.default_rng(0)
    assert (draw_wordings(50, rng, LEXICONS["order"])[:, 1] == 0).all()
    assert draw_wordings(50, rng).max(axis=0).tolist() == [6, 3]
