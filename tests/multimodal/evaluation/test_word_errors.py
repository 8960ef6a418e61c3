"""Word errors against closed cases and against the definition."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.word_errors import plain_words, word_error_rate, word_errors

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


@pytest.mark.parametrize(
    ("said", "heard", "expected"),
    [
        ("", "", (0, 0, 0)),
        ("a b c", "a b c", (0, 0, 0)),
        ("a b c", "", (0, 3, 0)),
        ("", "a b", (0, 0, 2)),
        ("a b c", "a x c", (1, 0, 0)),
        ("a b c", "a c", (0, 1, 0)),
        ("a c", "a b c", (0, 0, 1)),
        ("a b", "b c", (2, 0, 0)),  # or a deletion and an insertion
        ("the cat sat on the mat", "the cat sit on mat", (1, 1, 0)),
        ("a b c d", "x a b c d y", (0, 0, 2)),
    ],
)
def test_closed_cases(said: str, heard: str, expected: tuple[int, int, int]) -> None:
    assert word_errors(said.split(), heard.split()) == expected


@given(WORDS, WORDS)
def test_no_way_is_shorter(said: list[str], heard: list[str]) -> None:
    @cache
    def fewest(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = fewest(i - 1, j - 1) + (said[i - 1] != heard[j - 1])
        return min(same, fewest(i - 1, j) + 1, fewest(i, j - 1) + 1)

    found = word_errors(said, heard)
    assert found.total == fewest(len(said), len(heard))
    assert len(said) - found.deletions + found.insertions == len(heard)
    assert found.substitutions + found.deletions <= len(said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" I'd like a twelve-ounce Latte, please!", "i'd like a twelve ounce latte please"),
        ("Don’t.", "don't"),
        ("7.", "7"),
        ("Zoë's café_au_lait", "zoë's café au lait"),
        ("... ?", ""),
    ],
)
def test_plain_words(text: str, words: str) -> None:
    assert plain_words(text) == words.split()


def test_the_rate_is_over_all_words() -> None:
    found = word_error_rate(["One two three four.", "five"], ["one two three", "six seven"])
    assert found is not None
    assert found.rate == 3 / 5
    assert (found.words, found.errors) == (5, (1, 1, 1))
    low, high = found.intervals["word_error_rate"]
    assert (low, high) == (1 / 4, 2 / 1)
    again = word_error_rate(["One two three four.", "five"], ["one two three", "six seven"])
    assert again == found


def test_without_words_there_is_no_rate() -> None:
    assert word_error_rate(["", "..."], ["a", ""]) is None
    assert word_error_rate([], []) is None
