"""Batches of one task each, shared by processes and accumulation steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.training.homogeneous import HomogeneousBatches, part_of

SIZES = {"speech": 3, "ecg": 2}


def tasks(speech: int, ecg: int) -> list[str]:
    mixed = ["speech"] * speech + ["ecg"] * ecg
    return [mixed[i] for i in np.random.default_rng(0).permutation(len(mixed))]


@given(st.integers(0, 40), st.integers(4, 40), st.integers(1, 2), st.integers(1, 2))
def test_every_batch_is_of_one_task_and_nothing_comes_twice(
    speech: int, ecg: int, processes: int, accumulation: int
) -> None:
    if ecg < 2 * processes * accumulation:
        return
    task_of = np.array(tasks(speech, ecg))
    sampler = HomogeneousBatches(task_of.tolist(), SIZES, 0, processes, accumulation)
    batches, parts = sampler.of_epoch(3), processes * accumulation
    found = dict.fromkeys(SIZES, 0)
    for batch in batches:
        (name,) = set(task_of[batch].tolist())
        assert len(batch) == SIZES[name] * parts
        found[name] += 1
    expected = {"speech": speech // (3 * parts), "ecg": ecg // (2 * parts)}
    assert found == expected
    assert sampler.count == len(batches)
    used = np.concatenate(batches)
    assert len(set(used.tolist())) == len(used)


def test_processes_and_steps_take_disjoint_parts_of_the_whole() -> None:
    sampler = HomogeneousBatches(tasks(40, 30), SIZES, 0, processes=2, accumulation=3)
    for batch in sampler.of_epoch(0):
        parts = [
            part_of(batch, rank=rank, processes=2, step=step, accumulation=3)
            for rank in range(2)
            for step in range(3)
        ]
        assert len({len(part) for part in parts}) == 1
        assert np.concatenate(parts).tolist() == batch.tolist()


def test_epochs_differ_and_are_drawn_alike_by_all() -> None:
    one, other = (HomogeneousBatches(tasks(40, 30), SIZES, seed=1) for _ in range(2))
    first = [b.tolist() for b in one.of_epoch(0)]
    one.of_epoch(5)
    assert [b.tolist() for b in other.of_epoch(0)] == first
    assert [b.tolist() for b in other.of_epoch(1)] != first
    # What is left over is not always the same: 40 recordings in threes leave one out.
    left = {frozenset(range(70)) - {int(i) for b in one.of_epoch(e) for i in b} for e in range(5)}
    assert len(left) > 1
    names = [tasks(40, 30)[b[0]] for b in one.of_epoch(0)]
    assert names != sorted(names)


def test_shares_of_an_epoch() -> None:
    shares = {"speech": 0.5, "ecg": 1.0}
    sampler = HomogeneousBatches(tasks(40, 30), SIZES, 0, shares=shares)
    assert sampler.batches_of == {"ecg": 15, "speech": 6}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": {"ecg": 2}}, "batch_size: nothing for speech; name each data set"),
        ({"shares": {"speech": 1.0}}, "shares: nothing for ecg"),
        ({"shares": {"speech": 0.0, "ecg": 1.0}}, "shares of speech: 0.0; give a number in"),
        ({"batch_size": {"ecg": 0, "speech": 1}}, "batch_size of ecg: 0; give at least 1"),
        ({"processes": 0}, "processes: 0, accumulation: 1; give at least 1"),
        ({"processes": 50}, "no data set has recordings for one batch of all processes"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HomogeneousBatches(tasks(9, 9), **{"batch_size": SIZES, "seed": 0, **options})
