from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from multimodal.composition.draw import draw
from multimodal.composition.expressions import Overlay, Slot, Tree, parse
from multimodal.composition.lexicons import ORDER, TOGETHER
from multimodal.composition.meanings import constraints, turned
from multimodal.composition.plan import ComposerConfig
from multimodal.composition.relations import verdict
from multimodal.composition.scenes import Scenes
from multimodal.composition.twins import Items, benchmark_items, twins
from multimodal.errors import UserError
from tests.multimodal.composition.oracles import said
from tests.multimodal.composition.pools import pool_of

POOL = pool_of()
PAIRED = ComposerConfig(paired=True)
SHARED = ("snippets", "starts", "lengths", "loops", "gain_db", "gap", "fade", "totals", "wordings")


def tree_of(scenes: Scenes, row: int) -> Tree:
    return parse(scenes.expressions[scenes.expression[row]])


def times_of(scenes: Scenes, row: int) -> list[list[float]]:
    return np.stack([scenes.onset_seconds[row], scenes.offset_seconds[row]], axis=1).tolist()


def phrases_of(scenes: Scenes, row: int) -> list[str]:
    return [POOL.phrases[i] for i in scenes.snippets[row].tolist() if i >= 0]


def plain(text: str) -> list[str]:
    return sorted(text.replace(",", "").replace(";", "").split())


def test_twins_share_everything_but_the_composition() -> None:
    scenes = draw(POOL, PAIRED, 600, 0)
    others = twins(scenes, POOL, PAIRED)
    for name in SHARED:
        np.testing.assert_array_equal(getattr(scenes, name), getattr(others, name))
    assert (others.onsets.min(axis=1) >= 0).all()
    assert (others.offsets.max(axis=1) <= others.totals).all()
    for row in range(600):
        assert tree_of(others, row) == turned(tree_of(scenes, row))
        phrases = phrases_of(scenes, row)
        for mine, other in ((scenes, others), (others, scenes)):
            times = times_of(mine, row)
            assert said(mine.captions[row], phrases, times) is True
            assert said(other.captions[row], phrases, times) is False
            assert all(said(text, phrases, times) for text in mine.positives[row])
            assert all(said(text, phrases, times) is False for text in mine.negatives[row])
    assert not set(scenes.hashes) & set(others.hashes)
    assert not (scenes.keys == others.keys).any()


def test_reversals_need_no_silence() -> None:
    scenes = draw(POOL, PAIRED, 300, 0)
    full = scenes.offsets.max(axis=1) == scenes.totals
    overlaid = np.array([t.count("*") > 0 and "+" not in t for t in scenes.expressions])
    assert full[~overlaid[scenes.expression]].all()
    assert not full[overlaid[scenes.expression]].all()
    first = np.where(scenes.snippets >= 0, scenes.onsets, scenes.totals[:, None]).min(axis=1)
    assert (first[~overlaid[scenes.expression]] == 0).all()
    assert np.mean(first[overlaid[scenes.expression]] > 0) > 0.9


def test_without_room_there_is_no_twin() -> None:
    scenes = draw(POOL, ComposerConfig(expressions={"A*B": 1.0}), 20, 0)
    with pytest.raises(UserError, match="draw them with paired=true"):
        twins(scenes, POOL, PAIRED)
    with pytest.raises(UserError, match="its tail twin says the same"):
        twins(scenes, POOL, PAIRED, kind="tail")


@pytest.fixture(scope="module")
def found() -> Items:
    return benchmark_items(POOL, ComposerConfig(), 400, seed=3)


def items_to_tell_apart(found: Items) -> None:
    scenes, items = found
    assert [len(item) for item in items].count(3) == 100
    assert sorted(row for item in items for row in item) == list(range(len(scenes)))
    connectives = {word for text in (*ORDER, *TOGETHER) for word in text.split()}
    for item in items:
        texts = [scenes.captions[row] for row in item]
        assert len(set(texts)) == len(item)
        assert plain(texts[0]) == plain(texts[1])  # the same words, not the same events only
        events = [[w for w in plain(t) if w not in connectives] for t in texts]
        assert all(e == events[0] for e in events)
        for name in ("snippets", "lengths", "gain_db", "gap", "fade", "totals"):
            rows = getattr(scenes, name)[list(item)]
            assert (rows == rows[0]).all(), name


def test_silence_around_the_shorter_ones_is_at_both_ends(found: Items) -> None:
    scenes = found.scenes
    third = np.array([item[2] for item in found.items if len(item) == 3])
    there = scenes.snippets[third] >= 0
    before = np.where(there, scenes.onsets[third], 10**9).min(axis=1)
    after = scenes.totals[third] - scenes.offsets[third].max(axis=1)
    assert (before + after > 0).all()
    share = before / (before + after)
    np.testing.assert_allclose(share, scenes.lead[third], atol=0.01)
    assert 0.4 < share.mean() < 0.6


def scores(items: Items, score: Callable[[int, int], float]) -> dict[str, float]:
    """Shares of items solved, by strict comparisons; score(audio, caption) of scene numbers."""
    solved = []
    for item in items.items:
        s = np.array([[score(k, j) for j in item] for k in item])
        off = ~np.eye(len(item), dtype=bool)
        own = np.diag(s)
        text = (own[:, None] > s)[off].all()
        audio = (own[None] > s)[off].all()
        solved.append((text, audio, text and audio))
    return dict(zip(("text", "audio", "group"), np.mean(solved, axis=0).tolist(), strict=True))


def test_a_bag_of_events_solves_nothing(found: Items) -> None:
    def bag(audio: int, caption: int) -> float:
        heard = set(phrases_of(found.scenes, audio))
        named = {phrase for phrase in POOL.names if phrase in found.scenes.captions[caption]}
        return len(heard & named) / len(heard | named)

    assert scores(found, bag) == {"text": 0, "audio": 0, "group": 0}


def test_the_times_solve_everything(found: Items) -> None:
    def intervals(audio: int, caption: int) -> float:
        claims = constraints(tree_of(found.scenes, caption))
        return {True: 1.0, None: 0.5, False: 0.0}[verdict(claims, times_of(found.scenes, audio))]

    assert scores(found, intervals) == {"text": 1, "audio": 1, "group": 1}


def test_the_first_event_alone_does_not_solve_items_of_three(found: Items) -> None:
    def starts(tree: Tree) -> set[int]:
        if isinstance(tree, Slot):
            return {tree.number}
        parts = tree.parts if isinstance(tree, Overlay) else tree.parts[:1]
        return set().union(*map(starts, parts))

    def first(audio: int, caption: int) -> float:
        onsets = found.scenes.onsets[audio, found.scenes.snippets[audio] >= 0]
        named = starts(tree_of(found.scenes, caption))
        return float(int(onsets.argmin()) in named) / len(named)

    def group(keep: Callable[[tuple[int, ...]], bool]) -> float:
        return scores(Items(found.scenes, list(filter(keep, found.items))), first)["group"]

    def is_tail(item: tuple[int, ...]) -> bool:
        return str(tree_of(found.scenes, item[1])) == "A+C+B"

    parts = {
        "A+B": group(lambda i: len(i) == 2 and len(phrases_of(found.scenes, i[0])) == 2),
        "A+B+C, A+C+B": group(is_tail),
        "all": group(lambda i: True),
    }
    print(f"first-event oracle, group scores: {parts}")
    assert parts["A+B"] == 1
    assert parts["A+B+C, A+C+B"] == 0
    assert 0.5 < parts["all"] < 0.9


def test_positions_are_balanced_and_seeds_count(found: Items) -> None:
    scenes, items = found
    two = [i for i in items if len(i) == 2]
    order = [np.argsort(scenes.onsets[list(i)], axis=1, kind="stable")[:, 0] for i in two]
    pure = [o for o, i in zip(order, two, strict=True) if len(phrases_of(scenes, i[0])) == 2]
    assert all(set(o.tolist()) == {0, 1} for o in pure)  # each event is first once
    assert benchmark_items(POOL, ComposerConfig(), 400, seed=3).scenes.hashes == scenes.hashes
    assert benchmark_items(POOL, ComposerConfig(), 400, seed=4).scenes.hashes != scenes.hashes


def test_items_that_cannot_be() -> None:
    with pytest.raises(UserError, match="triplets: 2"):
        benchmark_items(POOL, ComposerConfig(), 4, triplets=2)
    with pytest.raises(UserError, match="items of order need a '\\+'"):
        benchmark_items(POOL, ComposerConfig(expressions={"A*B": 1.0}), 4)
    assert {len(i) for i in benchmark_items(POOL, PAIRED, 9, triplets=0).items} == {2}
