"""What a composed set must pass in any modality (specs/compa.md 7): oracles, strict scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from multimodal.composition.expressions import parse
from multimodal.composition.meanings import constraints
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.relations import verdict
from multimodal.composition.scenes import Scenes, claims
from multimodal.composition.twins import Items, benchmark_items, twins

SHARED = ("snippets", "starts", "lengths", "loops", "gain_db", "gap", "fade", "totals", "wordings")


def times_of(scenes: Scenes, row: int) -> list[list[float]]:
    return np.stack([scenes.onset_seconds[row], scenes.offset_seconds[row]], axis=1).tolist()


def scores(items: Items, score: Callable[[int, int], float]) -> tuple[float, float, float]:
    """Text, signal and group score by strict comparisons; score(signal, caption) of two scenes."""
    solved = []
    for item in items.items:
        pairs = [(k, j) for k in item for j in item if k != j]
        text = all(score(k, k) > score(k, j) for k, j in pairs)
        signal = all(score(k, k) > score(j, k) for k, j in pairs)
        solved.append((text, signal, text and signal))
    found = np.mean(solved, axis=0).tolist()
    return found[0], found[1], found[2]


def check(pool: Pool, config: ComposerConfig, *, triplets: float, seed: int = 0) -> Items:
    """60 items: a bag of events solves none, the times solve all, twins share what they must, and
    captions are what the times say.
    """
    found = benchmark_items(pool, config, 60, triplets=triplets, seed=seed)
    scenes = found.scenes
    phrases = [[pool.phrases[i] for i in row if i >= 0] for row in scenes.snippets.tolist()]
    every = sorted(set(pool.phrases), key=len)

    def bag(signal: int, caption: int) -> float:
        named = {phrase for phrase in every if phrase in scenes.captions[caption]}
        return len(set(phrases[signal]) & named) / len(set(phrases[signal]) | named)

    def intervals(signal: int, caption: int) -> float:
        said = constraints(parse(scenes.expressions[scenes.expression[caption]]))
        return {True: 1.0, None: 0.5, False: 0.0}[verdict(said, times_of(scenes, signal))]

    assert scores(found, bag) == (0, 0, 0)
    assert scores(found, intervals) == (1, 1, 1)
    for item in found.items:
        for name in SHARED:
            rows = getattr(scenes, name)[list(item)]
            assert (rows == rows[0]).all(), name
    assert_captions_true(scenes)
    again = benchmark_items(pool, config, 60, triplets=triplets, seed=seed)
    assert again.scenes.hashes == scenes.hashes
    assert again.scenes.captions == scenes.captions
    return found


def assert_captions_true(scenes: Scenes) -> None:
    """No positive is contradicted or undecided, no negative is anything but false."""
    for row in range(len(scenes)):
        for trees, right in (
            (scenes.positive_trees[row], True),
            (scenes.negative_trees[row], False),
        ):
            for tree in trees:
                assert verdict(claims(tree), times_of(scenes, row)) is right, (row, tree)


def turned_pair(pool: Pool, config: ComposerConfig, count: int) -> tuple[Scenes, Scenes]:
    """Scenes of A+B and their twins, B+A, of which both main captions are checked."""
    from multimodal.composition.draw import draw

    config = config.model_copy(update={"expressions": {"A+B": 1.0}})
    scenes = draw(pool, config, count, 1)
    return scenes, twins(scenes, pool, config)
