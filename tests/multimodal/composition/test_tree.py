from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.composition.expressions import parse
from multimodal.composition.levels import a_weighted_level
from multimodal.composition.tree import (
    OVERLAY_WORDS,
    SEQUENCE_WORDS,
    caption,
    concatenate,
    flat,
    negatives,
    overlay,
    positives,
    render,
)

RATE = 16_000


@pytest.mark.parametrize(
    ("expression", "true", "false"),
    [
        ("A*B", 3, 1),
        ("A+B", 2, 2),
        ("(A+B)*C", 3, 7),
        ("A*(B+C)", 3, 7),
        ("A*B*C", 3, 5),
        ("A+B+C", 3, 10),
        ("A*(B+C+D)", 10, 27),
        ("(A+B)*(C+D)", 10, 25),
        ("(A*B)*(C+D)", 10, 21),
        ("A+B+C+D", 10, 34),
    ],
)
def test_counts_of_the_released_functions(expression: str, true: int, false: int) -> None:
    tree = parse(expression)
    assert len(positives(tree)) == true
    assert len(negatives(tree)) == false
    assert not {flat(tree), *positives(tree)} & set(negatives(tree))


def test_expressions() -> None:
    assert positives(parse("A*B")) == ["A", "B", "B*A"]
    assert negatives(parse("A*B")) == ["B+A"]
    assert positives(parse("(A+B)*C")) == ["A+B", "A*C", "B*C"]
    assert negatives(parse("(A+B)*C")) == [
        *["A*B*C", "B+A*C", "A+B+C"],
        *["A*B", "B+A", "C+A", "C+B"],
    ]
    assert {"A*D", "B*C"} <= set(positives(parse("(A+B)*(C+D)")))  # the fault that is kept


def test_captions_go_through_49_pairs_of_words() -> None:
    labels = {"A": "rain", "B": "a dog", "C": "a cat"}
    assert caption("A*B+C", labels, 0) == "rain overlayed by a dog followed by a cat"
    assert caption("A*B+C", labels, 8) == "rain and a dog ends with a cat"
    assert len({caption("A*B+C", labels, n) for n in range(49)}) == 49
    assert caption("A*B+C", labels, 49) == caption("A*B+C", labels, 0)
    assert len(SEQUENCE_WORDS) == len(OVERLAY_WORDS) == 7


@given(st.integers(0, 10**6))
def test_concatenation_is_the_oracles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=(1, int(n))) for n in rng.integers(1, 60, 2))
    k = min(x.shape[1], y.shape[1]) // 10
    expected = [*x[0].tolist(), *y[0].tolist()]
    for i in range(k):
        ramp = i / (k - 1) if k > 1 else 0.0
        expected[x.shape[1] + i] *= ramp
        expected[x.shape[1] - 1 - i] *= ramp
    peak = max(map(abs, expected))
    found = concatenate(x.copy(), y.copy())
    assert found.shape == (1, x.shape[1] + y.shape[1])
    if peak > 1e-9:
        np.testing.assert_allclose(found[0], [0.5 * v / peak for v in expected], atol=1e-12)


def test_the_longer_is_cut_to_whole_copies_of_the_shorter() -> None:
    rng = np.random.default_rng(0)
    nine, seventeen = rng.normal(size=(1, 9000)), rng.normal(size=(1, 17_000))
    assert overlay(nine, seventeen, RATE).shape == (1, 9000)  # 8,000 samples are lost
    assert overlay(seventeen, nine, RATE).shape == (1, 9000)
    assert overlay(rng.normal(size=(1, 4000)), seventeen, RATE).shape == (1, 16_000)


def test_mixing_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4000)), 0.01 * rng.normal(size=(1, 8000))
    y[0] += 5.0  # the mean does not count
    one = x[0] - x[0].mean()
    one = np.tile(one * 0.5 / np.abs(one).max(), 2)
    two = y[0] - y[0].mean()
    two = two * 0.5 / np.abs(two).max()
    gains = [a_weighted_level(z, RATE) for z in (one, two)]
    t = 1 / (1 + 10 ** ((gains[0] - gains[1]) / 20))
    expected = (t * one + (1 - t) * two) / np.sqrt(t**2 + (1 - t) ** 2)
    np.testing.assert_allclose(overlay(x, y, RATE)[0], expected, atol=1e-12)
    same = rng.normal(size=(1, 5000))
    found = overlay(same, same, RATE)
    assert np.abs(found).max() == pytest.approx(0.5**0.5, abs=1e-9)  # the highest peak there is


def test_a_tree_is_rendered_from_within() -> None:
    rng = np.random.default_rng(0)
    sounds = {
        letter: rng.normal(size=(1, n)) for letter, n in zip("ABC", (3000, 4000, 2500), strict=True)
    }
    before = {letter: sound.copy() for letter, sound in sounds.items()}
    a, b, c = (sounds[letter] for letter in "ABC")
    expected = overlay(concatenate(a, b), c, RATE)
    np.testing.assert_array_equal(render(parse("(A+B)*C"), sounds, RATE), expected)
    expected = concatenate(concatenate(a, b), c)
    np.testing.assert_array_equal(render(parse("A+B+C"), sounds, RATE), expected)
    assert all((sounds[letter] == before[letter]).all() for letter in "ABC")


def test_channels_are_repeated() -> None:
    x, y = np.ones((1, 20)), np.stack([np.ones(30), -np.ones(30)])
    found = concatenate(x, y)
    assert found.shape == (2, 50)
    assert (found[0, :20] == found[1, :20]).all()
    assert (found[0, 20:] == -found[1, 20:]).all()
