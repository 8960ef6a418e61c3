"""Batches of near neighbours, against a plain-Python search and counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.errors import UserError
from multimodal.training.batching import LengthBatches, NearBatches, make_batches
from multimodal.training.config import FitConfig
from multimodal.training.neighbours import NONE, nearest


def slow(vectors: np.ndarray, count: int, texts: list[int]) -> list[list[int]]:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for i, own in enumerate(units):
        others = [j for j in range(len(units)) if texts[j] != texts[i]]
        ranked = sorted(others, key=lambda j: -float(own @ units[j]))[:count]
        found.append(ranked + [NONE] * (count - len(ranked)))
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 24), st.integers(1, 6), st.integers(1, 8), st.integers(0, 99), st.integers(1, 24)
)
def test_the_nearest_of_other_texts(
    n: int, count: int, kinds: int, seed: int, at_once: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, texts = (
        rng.normal(size=(n, 4)) * rng.uniform(0.1, 9, (n, 1)),
        rng.integers(kinds, size=n),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal.training.neighbours._AT_ONCE", at_once)
        found = nearest(torch.from_numpy(vectors), count, texts)
    assert found.tolist() == slow(vectors, count, texts.tolist())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 40), st.integers(1, 5), st.integers(4, 8), st.integers(0, 9), st.integers(1, 2)
)
def test_each_is_an_anchor_once_and_nothing_is_in_a_batch_twice(
    n: int, count: int, half: int, seed: int, multiple: int
) -> None:
    rng = np.random.default_rng(seed)
    near = nearest(torch.from_numpy(rng.normal(size=(n, 3))), count, rng.integers(4, size=n))
    anchors = LengthBatches(np.ones(n, dtype=np.int64), half, seed, multiple)
    batches = NearBatches(anchors, near)
    for epoch in range(3):
        drawn, alone = batches.of_epoch(epoch), anchors.of_epoch(epoch)
        assert len(drawn) == len(alone) == batches.count
        for batch, own in zip(drawn, alone, strict=True):
            assert batch[: len(own)].tolist() == own.tolist()
            assert max(Counter(batch.tolist()).values()) == 1
            assert len(batch) <= 2 * len(own)
            assert len(batch) % multiple == 0
            assert set(batch[len(own) :]) <= set(near[own].ravel()) - {NONE}
            left = [set(near[a]) - {NONE} - set(batch) for a in own]
            if multiple == 1 and len(batch) < 2 * len(own):  # somebody found none: all were taken
                assert not all(left)
        assert [b.tolist() for b in drawn] == [b.tolist() for b in batches.of_epoch(epoch)]


def test_too_many_processes_are_refused() -> None:
    config = FitConfig.parse({"batch_size": 8, "batch": {"neighbours": 1}})
    with pytest.raises(UserError, match="set 12 or more"):
        make_batches(config, np.ones(20), None, np.ones((20, 1)), seed=1, processes=3)


def test_neighbours_change_from_epoch_to_epoch() -> None:
    near = (np.arange(20)[:, None] + np.arange(1, 6)) % 20
    config = FitConfig.parse({"batch_size": 8, "batch": {"neighbours": 5}})
    batches = make_batches(config, np.ones(20), None, near, seed=1, processes=1)
    met = {frozenset(b.tolist()) for e in range(4) for b in batches.of_epoch(e)}
    assert len(met) == 4 * batches.count == 20


@pytest.mark.parametrize(
    ("batch", "size", "told"),
    [
        ({}, 8, "one of the two"),
        ({"meanings": 2, "neighbours": 2}, 8, "one of the two"),
        ({"neighbours": 5}, 7, "halved"),
        ({"neighbours": 5}, 2, "halved"),
    ],
)
def test_batches_that_cannot_be(batch: dict[str, int], size: int, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        FitConfig.parse({"batch_size": size, "batch": batch})
