from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.composition.captions import (
    caption,
    false_forms,
    true_forms,
    written,
)
from multimodal.composition.expressions import Tree, parse, slots
from multimodal.composition.layout import place
from multimodal.composition.lexicons import ORDER, TOGETHER, Wording, draw_wordings
from multimodal.composition.meanings import constraints, meaning
from multimodal.composition.relations import RULES, verdict
from multimodal.errors import UserError
from tests.multimodal.composition.oracles import read
from tests.multimodal.composition.trees import all_trees, trees

WORDINGS = [Wording(*pair) for pair in itertools.product(ORDER, TOGETHER)]
THEN = Wording("then", "while")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_caption_is_read_in_one_way(count: int) -> None:
    for tree, wording in itertools.product(set(all_trees(count)), WORDINGS):
        text = written(tree, wording, "ABCD")
        assert meaning(read(text), "ABCD") == meaning(tree, "ABCD"), text


@pytest.mark.parametrize(
    ("expression", "wording", "text"),
    [
        ("A+B+C", THEN, "rain, then a dog, then a cat"),
        ("A*B", THEN, "rain while a dog"),
        ("A*(B+C)", THEN, "rain throughout, while a dog then a cat"),
        ("(A+B)*C", Wording("and then", "with"), "a cat throughout, with rain and then a dog"),
        ("A+B", Wording("after", "with"), "a dog after rain"),
        ("A+B+C", Wording("preceded by", "with"), "a cat preceded by a dog preceded by rain"),
        ("A*B+C", Wording("before", "with"), "rain with a dog, before a cat"),
        ("(A+B)*(C+D)", Wording("before", "while"), "rain before a dog, while a cat before {0}"),
        ("A*B*(C+D)", THEN, "rain and a dog throughout, while a cat then {0}"),
        ("A+B*(C+D)", THEN, "rain; then a dog throughout, while a cat then {0}"),
    ],
)
def test_wording(expression: str, wording: Wording, text: str) -> None:
    assert written(parse(expression), wording, ["rain", "a dog", "a cat", "{0}"]) == text


def test_a_tree_too_deep_is_refused() -> None:
    with pytest.raises(UserError, match="4 operators within each other, captions can say 3"):
        written(parse("A+B*(C+D*E)"), THEN, "ABCDE")


@cache
def scenes(tree: Tree, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Onsets and offsets (N, K) in seconds of scenes in which the tree is true."""
    rng, events = np.random.default_rng(1), len(slots(tree))
    found = []
    while len(found) < count:
        lengths = rng.integers(10, 60, (1, events))
        gap, shift = rng.integers(0, 4, 1), rng.random((1, events))
        onsets = place(tree, lengths, gap, shift, loop=False).onsets
        times = np.stack([onsets[0], onsets[0] + lengths[0]]) / 10
        if verdict(constraints(tree), times.T):
            found.append(times)
    times = np.stack(found, axis=1)
    return times[0], times[1]


def captions_of(expression: str, seed: int, **most: int):
    tree = parse(expression)
    onsets, offsets = scenes(tree)
    rng = np.random.default_rng(seed)
    words = [["rain", "a dog", "a cat", "a bell"][: len(slots(tree))]] * len(onsets)
    wordings = draw_wordings(len(onsets), rng)
    options: dict[str, Any] = {"positives": 5, "negatives": 5, **most}
    return caption(tree, words, onsets, offsets, wordings=wordings, rng=rng, **options)


@pytest.mark.parametrize("expression", ["A+B", "A*B", "A*(B+C)", "(A+B)*(C+D)", "A+B*(C+D)"])
def test_positives_are_true_and_negatives_false(expression: str) -> None:
    onsets, offsets = scenes(parse(expression))
    found = captions_of(expression, 0, positives=50, negatives=50)
    for row, times in enumerate(np.stack([onsets, offsets], axis=2)):
        for trees_of, right in ((found.positive_trees, True), (found.negative_trees, False)):
            assert all(verdict(constraints(t), times) is right for t in trees_of[row])
        assert found.positives[row][0] == found.main[row]
        assert len({*found.positives[row], *found.negatives[row]}) == len(
            found.positives[row] + found.negatives[row]
        )
        sizes = [len(slots(t)) for t in found.positive_trees[row]]
        assert sizes == sorted(sizes, reverse=True)


def test_negatives_say_the_mains_words_and_come_by_hardness() -> None:
    found = captions_of("A+B+C", 0)
    for main, negatives, near in zip(
        found.main, found.negatives, found.negative_trees, strict=True
    ):
        assert str(near[0]) == "A*B*C"
        assert {str(t) for t in near[1:4]} == {"B+A+C", "C+B+A", "A+C+B"}
        for text in negatives[1:4]:
            assert sorted(text.replace(",", "").split()) == sorted(main.replace(",", "").split())


def test_the_same_seed_says_the_same_and_another_something_else() -> None:
    assert captions_of("A*(B+C)", 3) == captions_of("A*(B+C)", 3)
    assert captions_of("A*(B+C)", 3) != captions_of("A*(B+C)", 4)


def test_every_form_within_a_level_is_taken_first_at_some_seed() -> None:
    forms = [form for form in false_forms(parse("A+B+C")) if form.level == 1]
    first = {t for seed in range(10) for t in [r[1] for r in captions_of("A+B+C", seed)[4]]}
    assert first == {form.tree for form in forms}


def test_single_events_are_captions_of_two_only() -> None:
    assert [str(f.tree) for f in true_forms(parse("A*B"))] == ["A*B", "B*A", "A", "B"]
    assert {str(f.tree) for f in true_forms(parse("A*B+C"))[2:]} == {"A*B", "A+C", "B+C"}
    assert [len(p) for p in captions_of("A+B", 0, positives=1, negatives=0).positives] == [1] * 20


def test_words_of_events_are_never_read() -> None:
    times = np.array([[0.0, 2.0]]), np.array([[1.0, 3.0]])
    rng = np.random.default_rng(0)
    words = [["{1} [eval] {", 'a "dog" {0}']]
    found = caption(
        parse("A+B"),
        words,
        *times,
        positives=5,
        negatives=5,
        wordings=draw_wordings(1, rng),
        rng=rng,
    )
    assert all(w in found.main[0] for w in words[0])
    assert found.positives[0][-2:] in (words[0], words[0][::-1])


@settings(max_examples=30)
@given(trees(4), st.integers(0, 10**6))
def test_a_scene_that_is_not_what_its_tree_says_is_a_fault(tree: Tree, seed: int) -> None:
    order = sorted(slots(tree))
    onsets = np.zeros((1, order[-1] + 1))
    onsets[0, order] = np.random.default_rng(seed).permutation(len(order)) * 2.0
    says = verdict(constraints(tree), np.stack([onsets[0], onsets[0] + 1], axis=1), RULES)
    arguments = [[["x"] * (order[-1] + 1)], onsets, onsets + 1]
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {
        "positives": 1,
        "negatives": 0,
        "wordings": draw_wordings(1, rng),
        "rng": rng,
    }
    if says:
        assert caption(tree, *arguments, **options).main
    else:
        with pytest.raises(AssertionError, match="not what its tree says"):
            caption(tree, *arguments, **options)
