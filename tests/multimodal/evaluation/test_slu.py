"""SLU-F1 against a slow scorer in exact fractions, closed cases and properties."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.slu import character_distance, slu_f1, word_distance

Slots = list[tuple[str, str]]

FILLERS = st.sampled_from(["a", "b", "ab", "ba", "a b", "b a", "a b c", "aB c", "abc abc abc"])
SAID = st.lists(st.tuples(st.sampled_from("xyz"), FILLERS), max_size=4)
HEARD = st.lists(st.tuples(st.sampled_from("xyz"), FILLERS | st.just("")), max_size=4)
ROWS = st.lists(st.tuples(SAID, HEARD), max_size=4)


def edits(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    @cache
    def fewest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        if a[i] == b[j]:
            return fewest(i + 1, j + 1)
        return 1 + min(fewest(i + 1, j), fewest(i, j + 1), fewest(i + 1, j + 1))

    return fewest(0, 0)


def oracle(rows: list[tuple[Slots, Slots]]) -> tuple[Fraction, ...]:
    """F1, precision, recall, and the counts, type by type, in the words of the specification."""
    hits: dict[str, Fraction] = defaultdict(Fraction)
    wrong: dict[str, Fraction] = defaultdict(Fraction)
    missed: dict[str, Fraction] = defaultdict(Fraction)
    for by_words in (True, False):
        for said, heard in rows:
            left = [(kind, filler.lower()) for kind, filler in said]
            for kind, filler in ((k, f.lower()) for k, f in heard):
                best = None
                for slot in left:
                    if slot[0] != kind:
                        continue
                    one, other = tuple(slot[1]), tuple(filler)
                    if by_words:
                        one, other = tuple(slot[1].split()), tuple(filler.split())
                    longest = len(one) if by_words else max(len(one), len(other))
                    d = Fraction(edits(one, other), longest) if filler else Fraction(1)
                    if best is None or d < best[0]:
                        best = (d, slot)
                if best is None:
                    wrong[kind] += 1
                    continue
                left.remove(best[1])
                hits[kind] += 1
                wrong[kind] += best[0]
                missed[kind] += best[0]
            for kind, _ in left:
                missed[kind] += 1
    tp, fp, fn = (sum(counts.values(), Fraction()) for counts in (hits, wrong, missed))
    precision = tp / (tp + fp) if tp + fp else Fraction()
    recall = tp / (tp + fn) if tp + fn else Fraction()
    both = precision + recall
    return 2 * precision * recall / both if both else both, precision, recall, tp, fp, fn


def fields(gold: list[Slots], predicted: list[Slots]) -> tuple[float, ...]:
    score = slu_f1(gold, predicted)
    counts = (score.true_positives, score.false_positives, score.false_negatives)
    return (score.f1, score.precision, score.recall, *counts)


def test_the_example_of_the_specification() -> None:
    score = slu_f1([[("event_name", "dance class")]], [[("event_name", "dans class")]])
    assert score.true_positives == 2
    assert score.false_positives == score.false_negatives == pytest.approx(1 / 2 + 2 / 11)
    assert score.false_positives == pytest.approx(0.6818, abs=5e-5)
    assert score.f1 == pytest.approx(0.7458, abs=5e-5)


@pytest.mark.parametrize(
    ("gold", "predicted", "counts"),
    [
        ([], [], (0, 0, 0)),
        ([("x", "a")], [], (0, 0, 2)),
        ([], [("x", "a")], (0, 2, 0)),
        ([("x", "a")], [("y", "a")], (0, 2, 2)),
        ([("x", "a b")], [("x", "A B")], (2, 0, 0)),
        ([("x", "a b")], [("x", "")], (2, 2, 2)),
        ([("x", "a b")], [("x", " ")], (2, 2, 2)),
        # More words than were said: the distance by words is 3, by characters 6 / 7.
        ([("x", "a")], [("x", "a b c d")], (2, 3 + 6 / 7, 3 + 6 / 7)),
        # The second says what the first took: the nearest of each is taken in turn.
        ([("x", "a b"), ("x", "c d")], [("x", "c d"), ("x", "c d")], (4, 1 + 2 / 3, 1 + 2 / 3)),
        # A tie goes to the first, which leaves the better one for what comes after.
        ([("x", "a"), ("x", "b")], [("x", "c"), ("x", "b")], (4, 2, 2)),
        # One gold slot is found once.
        ([("x", "a")], [("x", "a"), ("x", "a")], (2, 2, 0)),
        # The nearest by words is not the nearest by characters.
        ([("x", "ab cd"), ("x", "abcd e")], [("x", "ab d")], (2, 1 / 2 + 1 / 5, 2 + 1 / 2 + 1 / 5)),
    ],
)
def test_closed_cases(gold: Slots, predicted: Slots, counts: tuple[float, ...]) -> None:
    assert fields([gold], [predicted])[3:] == pytest.approx(counts)


def test_the_counts_of_both_distances_are_added_not_their_scores_averaged() -> None:
    gold, predicted = [[("x", "a")]], [[("x", "a b c d")]]
    assert slu_f1(gold, predicted).f1 == pytest.approx(2 / (2 + 3 + 6 / 7))
    by_words, by_characters = 1 / (1 + 3), 1 / (1 + 6 / 7)
    assert slu_f1(gold, predicted).f1 != pytest.approx((by_words + by_characters) / 2, abs=0.01)


@given(ROWS)
def test_it_is_the_slow_scorers(rows: list[tuple[Slots, Slots]]) -> None:
    gold, predicted = [list(g) for g, _ in rows], [list(p) for _, p in rows]
    expected = [float(v) for v in oracle(rows)]
    assert fields(gold, predicted) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(SAID, max_size=5))
def test_what_was_said_scores_1(gold: list[Slots]) -> None:
    upper = [[(kind, filler.upper()) for kind, filler in slots] for slots in gold]
    score = slu_f1(gold, upper)
    assert score.f1 == score.precision == score.recall == float(any(gold))
    assert score.true_positives == 2 * sum(map(len, gold))
    assert score.false_positives == score.false_negatives == 0


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_recordings_does_not_matter(rows: list[tuple[Slots, Slots]], random) -> None:
    before = fields([g for g, _ in rows], [p for _, p in rows])
    random.shuffle(rows)
    after = fields([g for g, _ in rows], [p for _, p in rows])
    assert after == pytest.approx(before, rel=1e-12)


@given(ROWS)
def test_it_is_a_fraction(rows: list[tuple[Slots, Slots]]) -> None:
    score = slu_f1([g for g, _ in rows], [p for _, p in rows])
    low, high = sorted((score.precision, score.recall))
    assert 0 <= low <= score.f1 + 1e-12
    assert score.f1 <= high + 1e-12
    assert high <= 1


@given(FILLERS, FILLERS)
def test_distances(said: str, heard: str) -> None:
    assert (word_distance(said, heard) == 0) == (said.split() == heard.split())
    assert (character_distance(said, heard) == 0) == (said == heard)
    assert character_distance(said, heard) == character_distance(heard, said) <= 1
    assert word_distance(said, "") == character_distance(said, "") == 1


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="predicted: slots of 0 recordings; give those of all 1"):
        slu_f1([[("x", "a")]], [])
    with pytest.raises(ValueError, match="gold: recording 1, slot 'x' has no words"):
        slu_f1([[], [("x", " ")]], [[], []])
