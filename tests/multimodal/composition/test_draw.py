from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from multimodal.composition.draw import draw
from multimodal.composition.expressions import Overlay, parse
from multimodal.composition.meanings import constraints
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.scenes import Scenes, claims
from multimodal.errors import UserError
from tests.multimodal.composition.oracles import said
from tests.multimodal.composition.pools import NAMES, pool_of

POOL, CONFIG = pool_of(), ComposerConfig()


def check(scenes: Scenes, pool: Pool, config: ComposerConfig) -> None:
    """Everything that every scene must be."""
    there = scenes.snippets >= 0
    assert (there.sum(axis=1) == [len(set(e) & set("ABCD")) for e in names(scenes)]).all()
    assert (scenes.lengths == np.where(there, pool.lengths[scenes.snippets], 0)).all()
    assert (scenes.offsets - scenes.onsets == scenes.lengths * scenes.loops).all()  # nothing cut
    assert scenes.onsets.min() >= 0
    assert (scenes.offsets.max(axis=1) <= scenes.totals).all()
    assert scenes.totals.max() <= config.max_seconds * pool.rate
    if not config.paired:
        assert (scenes.offsets.max(axis=1) == scenes.totals).all()
    seconds = scenes.lengths[there] / pool.rate
    assert config.snippet_seconds[0] <= seconds.min()
    assert seconds.max() <= config.snippet_seconds[1]
    shortest = np.where(there, scenes.lengths, 10**9).min(axis=1)
    assert (scenes.fade == np.minimum(config.fade * pool.rate, shortest // 10)).all()
    assert config.gap[0] * pool.rate <= scenes.gap.min()
    assert scenes.gap.max() <= config.gap[1] * pool.rate
    gains = np.where(there, scenes.gain_db, np.nan)
    assert (np.nanmax(gains, axis=1) - np.nanmin(gains, axis=1)).max() <= config.level_db
    for row in range(len(scenes)):
        rows = scenes.snippets[row][there[row]].tolist()
        labels = [int(pool.labels[i]) for i in rows]
        assert len({pool.categories[label] for label in labels}) == len(rows)
        assert scenes.captions[row] == scenes.positives[row][0]
        times = [[*pair] for pair in zip(*seconds_of(scenes, row), strict=True)]
        phrases = [pool.phrases[i] for i in rows]
        for text in scenes.positives[row]:
            assert said(text, phrases, times) is True, (text, times)
        for text in scenes.negatives[row]:
            assert said(text, phrases, times) is False, (text, times)
            assert sorted(p for p in phrases if p in text)  # of events that are heard


def names(scenes: Scenes) -> list[str]:
    return [scenes.expressions[e] for e in scenes.expression.tolist()]


def seconds_of(scenes: Scenes, row: int) -> tuple[list[float], list[float]]:
    return scenes.onset_seconds[row].tolist(), scenes.offset_seconds[row].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_what_is_said_is_true_and_what_is_denied_false(seed: int) -> None:
    """2,400 scenes; captions are read back from their text."""
    config = ComposerConfig(paired=bool(seed % 2), loop=seed % 3 > 0, seed=seed)
    check(draw(pool_of(seed=seed), config, 400, seed), pool_of(seed=seed), config)


@pytest.mark.slow
def test_ten_thousand_seeds() -> None:
    for seed in range(10_000):
        config = ComposerConfig(paired=bool(seed % 2), loop=seed % 3 > 0)
        check(draw(POOL, config, 2, seed), POOL, config)


def test_equal_seeds_give_equal_scenes_and_others_others() -> None:
    one, same, other = (draw(POOL, CONFIG, 50, seed) for seed in (1, 1, 2))
    for field in fields(Scenes):
        a, b = getattr(one, field.name), getattr(same, field.name)
        assert (a == b).all() if isinstance(a, np.ndarray) else a == b
    assert not set(one.hashes) & set(other.hashes)
    assert set(draw(POOL, ComposerConfig(seed=1), 50, 1).hashes).isdisjoint(one.hashes)


def test_a_hash_tells_everything_that_is_heard() -> None:
    scenes = draw(POOL, CONFIG, 300, 0)
    assert len(set(scenes.hashes)) == 300
    longer = replace(POOL, starts=np.ones(len(POOL), dtype=np.int64))
    moved = draw(longer, CONFIG, 300, 0)
    assert moved.captions == scenes.captions
    assert set(moved.hashes).isdisjoint(scenes.hashes)
    louder = draw(POOL, ComposerConfig(level_db=2.0), 300, 0)
    assert louder.captions == scenes.captions
    assert set(louder.hashes).isdisjoint(scenes.hashes)


def test_expressions_come_by_their_weights_and_labels_evenly() -> None:
    scenes = draw(POOL, CONFIG, 8000, 0)
    total = sum(CONFIG.expressions.values())
    for name, weight in CONFIG.expressions.items():
        share = names(scenes).count(name) / 8000
        assert share == pytest.approx(weight / total, abs=0.02)
    two = scenes.expression == scenes.expressions.index("A+B")
    for column in (0, 1):
        counts = np.bincount(POOL.labels[scenes.snippets[two, column]], minlength=len(NAMES))
        assert counts.min() > 0.6 * counts.mean()


def test_equal_keys_say_the_same() -> None:
    scenes = draw(POOL, CONFIG, 3000, 0)
    said_of: dict[int, frozenset] = {}
    for row in range(len(scenes)):
        tree = parse(names(scenes)[row])
        words = [POOL.phrases[i] for i in scenes.snippets[row].tolist()]
        claim = frozenset(
            (c.kind, frozenset(sides) if c.kind == "with" else sides)
            for c in constraints(tree)
            for sides in [tuple(frozenset(words[i] for i in side) for side in c[1:])]
        )
        assert said_of.setdefault(int(scenes.keys[row]), claim) == claim
    assert len(set(said_of.values())) == len(said_of) < 3000


def test_trees_of_captions_are_what_they_claim() -> None:
    scenes = draw(POOL, CONFIG, 100, 0)
    assert scenes.positive_trees[0][0] == names(scenes)[0]
    assert all(
        len(t) == len(c) for t, c in zip(scenes.negative_trees, scenes.negatives, strict=True)
    )
    assert claims("A") == ()
    assert claims("A+B") == constraints(parse("A+B"))


def test_voices_follow_each_other_and_others_overlap() -> None:
    config = ComposerConfig(sources="voices", expressions={"A+B": 1.0, "A*B": 1.0, "(A+B)*C": 1.0})
    pool = pool_of(800)
    scenes = draw(pool, config, 300, 0)
    check(scenes, pool, config)
    for row, name in enumerate(names(scenes)):
        who = [pool.sources[i] for i in scenes.snippets[row].tolist()]
        if isinstance(parse(name), Overlay):
            assert who[0] != who[1 if name == "A*B" else 2]
        if "+" in name:
            assert who[0] == who[1]


def test_labels_and_phrases_are_no_part_of_each_other() -> None:
    pool = Pool(
        labels=np.arange(60) % 4,
        lengths=np.full(60, 1500),
        rate=1000,
        names=("car", "Car_horn", "church bell", "wind"),
        phrases=tuple(
            ["a car", "a horn", "a bell", "a bell in the wind"][i % 4] for i in range(60)
        ),
    )
    scenes = draw(pool, ComposerConfig(expressions={"A+B": 1.0}), 200, 0)
    pairs = {frozenset(pool.labels[row].tolist()) for row in scenes.snippets}
    assert pairs == {frozenset(p) for p in ((0, 2), (0, 3), (1, 2), (1, 3))}


@pytest.mark.parametrize(
    ("pool", "settings", "words"),
    [
        (pool_of(), {"max_seconds": 1.5}, r"max_seconds: 1.5; .*'A\+B' do not fit. The shortest"),
        (pool_of(), {"snippet_seconds": (6.0, 9.0)}, r"snippet_seconds: 6 to 9; the pool's 200"),
        (pool_of(2), {}, "needs 2 labels of different categories"),
        (pool_of(), {"sources": "voices", "expressions": {"A*B": 1.0}, "max_seconds": 0.5}, "max_"),
    ],
)
def test_what_cannot_be_drawn_is_refused(pool: Pool, settings: dict, words: str) -> None:
    config = ComposerConfig(**{"expressions": {"A+B": 1.0}, **settings})
    with pytest.raises(UserError, match=words):
        draw(pool, config, 20, 0)


def test_the_shortest_scene_is_named() -> None:
    pool = pool_of()
    best = sorted(pool.lengths[pool.labels // 2 == k].min() for k in range(5))[:2]
    config = ComposerConfig(expressions={"A+B": 1.0}, max_seconds=1.5, gap=(0.1, 0.2))
    with pytest.raises(UserError, match=f"takes {(sum(best) + 100) / 1000:.2f} s"):
        draw(pool, config, 20, 0)
    with pytest.raises(UserError, match="count: 0"):
        draw(pool, config, 0, 0)
