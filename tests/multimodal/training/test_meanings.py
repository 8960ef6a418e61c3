"""Batches of few meanings: what they are made of, against counts in plain Python."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.errors import UserError
from multimodal.training.batching import LengthBatches, make_batches
from multimodal.training.config import FitConfig
from multimodal.training.meanings import MeaningBatches


class Case(NamedTuple):
    meaning_of: list[str]
    meanings: int
    each: int
    seed: int

    def batches(self) -> MeaningBatches:
        size = self.meanings * self.each
        return MeaningBatches(
            self.meaning_of, batch_size=size, meanings=self.meanings, seed=self.seed
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    meanings, each = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(each, 5 * each + 3), min_size=meanings, max_size=12))
    words = [f"class {c}" for c, count in enumerate(counts) for _ in range(count)]
    return Case(draw(st.permutations(words)), meanings, each, draw(st.integers(0, 9)))


def most(case: Case) -> int:
    """Batches that fit: always from the classes with most groups left, which wastes least."""
    left = {c: n // case.each for c, n in Counter(case.meaning_of).items()}
    for made in range(len(case.meaning_of)):
        chosen = sorted(left, key=lambda c: -left[c])[: case.meanings]
        if not left[chosen[-1]]:
            return made
        for c in chosen:
            left[c] -= 1
    return len(case.meaning_of)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_batch_is_whole_nothing_comes_twice_and_no_more_would_fit(case: Case) -> None:
    batches, used = case.batches(), Counter[int]()
    assert batches.count == most(case)
    sizes = Counter(case.meaning_of)
    for epoch in range(4):
        drawn = batches.of_epoch(epoch)
        assert len(drawn) == batches.count
        for batch in drawn:
            found = Counter(case.meaning_of[i] for i in batch)
            assert list(found.values()) == [case.each] * case.meanings
        rows = [int(i) for batch in drawn for i in batch]
        assert len(set(rows)) == len(rows)
        used.update(rows)
        for name in sizes:
            times = [used[i] for i, other in enumerate(case.meaning_of) if other == name]
            assert max(times) - min(times) <= 1
    groups = {c: min(n // case.each, batches.count) for c, n in sizes.items()}
    left_out = sum(groups.values()) - batches.count * case.meanings
    assert 0 <= left_out < case.meanings


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 5), st.integers(1, 3))
def test_classes_of_one_size_take_turns(meanings: int, each: int, more: int, groups: int) -> None:
    words = [f"class {c}" for c in range(meanings + more) for _ in range(groups * each)]
    batches, used = Case(words, meanings, each, 0).batches(), Counter[str]()
    for epoch in range(7):
        used.update(words[i] for batch in batches.of_epoch(epoch) for i in batch)
        assert max(used.values()) - min(used[w] for w in set(words)) <= each


@settings(max_examples=40, deadline=None)
@given(cases(), st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_an_epoch_depends_on_nothing_but_seed_and_number(case: Case, asked: list[int]) -> None:
    inorder, other = case.batches(), case.batches()
    expected = [inorder.of_epoch(epoch) for epoch in range(7)]
    for epoch in asked:
        found = other.of_epoch(epoch)
        assert all((a == b).all() for a, b in zip(found, expected[epoch], strict=True))


def test_epochs_and_seeds_differ_and_compositions_are_mixed() -> None:
    case = Case([f"class {i % 24}" for i in range(24 * 8)], 4, 4, 0)
    batches = case.batches()
    epochs = [batches.of_epoch(e) for e in range(20)]
    assert len({tuple(e[0].tolist()) for e in epochs}) == 20
    assert (case._replace(seed=1).batches().of_epoch(0)[0] != epochs[0][0]).any()
    met = Counter[frozenset[str]]()
    for batch in (b for e in epochs for b in e):
        names = sorted({case.meaning_of[i] for i in batch})
        met.update(frozenset((a, b)) for a in names for b in names if a < b)
    # 276 pairs of classes, 20 epochs x 12 batches x 6 pairs: 5.2 meetings each.
    assert len(met) > 260
    assert max(met.values()) < 20


def test_processes_take_parts_of_the_same_batches() -> None:
    config = FitConfig.parse({"batch_size": 12, "batch": {"meanings": 3}})
    words = [f"class {i % 5}" for i in range(40)]
    one, three = (
        make_batches(config, np.ones(40), words, seed=1, processes=p).of_epoch(2) for p in (1, 3)
    )
    assert all((a == b).all() for a, b in zip(one, three, strict=True))
    with pytest.raises(UserError, match=r"batch_size=12 .* by 5 processes.*a multiple of 30"):
        make_batches(config, np.ones(40), words, seed=1, processes=5)
    with pytest.raises(UserError, match=r"batch_size=12 .* by 12 processes.*a multiple of 24"):
        make_batches(config, np.ones(40), words, seed=1, processes=12)


def test_without_the_setting_all_is_as_it_was() -> None:
    assert "batch" not in FitConfig().dump()
    assert FitConfig.parse({"batch": None}).dump() == FitConfig().dump()
    kept = {"batch": {"meanings": 2}}
    assert FitConfig.parse(FitConfig.parse(kept).dump()).dump()["batch"] == {"meanings": 2}
    made = make_batches(FitConfig(), np.ones(40), None, seed=1, processes=1)
    assert isinstance(made, LengthBatches)


@pytest.mark.parametrize(
    ("size", "meanings", "near"),
    [(128, 12, "8 or 16"), (128, 3, "2 or 4"), (12, 5, "4 or 6"), (7, 2, "7"), (8, 9, "8")],
)
def test_meanings_that_do_not_divide_a_batch(size: int, meanings: int, near: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FitConfig.parse({"batch_size": size, "batch": {"meanings": meanings}})
    words = f"batch.meanings={meanings} does not divide batch_size={size}; the nearest that do: "
    assert f"{words}{near} [" in str(caught.value)


@pytest.mark.parametrize("meanings", [0, 1, -2, 2.5, True, "many"])
def test_numbers_that_make_no_sense(meanings: object) -> None:
    with pytest.raises(ValidationError):
        FitConfig.parse({"batch": {"meanings": meanings}})


@pytest.mark.parametrize(
    ("counts", "size", "meanings", "words"),
    [
        ([9, 9, 9], 16, 4, "only 3 classes; set meanings=2."),
        ([9, 9], 9, 3, "only 2 classes; set another training.batch_size, or no batch."),
        ([9, 3, 9], 8, 2, "needs 4 recordings .* 'class 1' has 3 for training; .*batch_size=6."),
        ([1, 3, 9], 8, 2, r"'class 0' has 1 .* \(2 of 3 classes have too few\); .*batch_size=2."),
    ],
)
def test_meanings_that_do_not_fit_the_recordings(counts, size, meanings, words: str) -> None:
    made = [f"class {c}" for c, count in enumerate(counts) for _ in range(count)]
    with pytest.raises(UserError, match=rf"^training\.batch\.meanings={meanings}.*{words}$"):
        MeaningBatches(made, batch_size=size, meanings=meanings, seed=0)
