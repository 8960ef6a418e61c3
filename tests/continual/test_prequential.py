"""Test-then-train, against counting by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from continual.learner import Learner, Prediction
from continual.prequential import Prequential, prequential_metrics, prequential_points
from multimodal.batch import Batch

BATCHES = st.lists(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))


def by_hand(batches: list[tuple[int, int]], window: int) -> list[tuple[int, float, float]]:
    """Every recording by itself: 1 if it was named rightly; batches give the order."""
    outcomes = [[1] * right + [0] * (size - right) for size, right in batches]
    points, begin = [], 0
    for number in range(1, len(outcomes) + 1):
        met = [o for batch in outcomes[:number] for o in batch]
        before = len(met) - len(outcomes[number - 1])
        due = any(before < k * window <= len(met) for k in range(1, len(met) // window + 1))
        if due or number == len(outcomes):
            part = met[begin:]
            points.append((len(met), sum(met) / len(met), sum(part) / len(part)))
            begin = len(met)
    return points


@given(batches=BATCHES, window=st.integers(1, 20))
def test_points_are_those_of_counting_by_hand(batches, window) -> None:
    sizes, right = [n for n, _ in batches], [r for _, r in batches]
    found = prequential_points(sizes, right, window)
    wanted = by_hand(batches, window)
    assert len(found) == len(wanted)
    for point, other in zip(found, wanted, strict=True):
        assert tuple(point) == pytest.approx(other)
    if batches:
        metrics = prequential_metrics({"sizes": sizes, "right": right}, sum(sizes), window)
        assert metrics["prequential_accuracy"] == pytest.approx(sum(right) / sum(sizes))
        points = metrics["prequential"]["points"]
        assert points[-1][1] == metrics["prequential_accuracy"]
        begins = [0, *(p[0] for p in points[:-1])]
        whole = sum((p[0] - begin) * p[2] for p, begin in zip(points, begins, strict=True))
        assert whole == pytest.approx(sum(right))  # windows cover the stream once


def test_a_stream_that_was_asked_in_part_has_no_accuracy() -> None:
    record = {"sizes": [4, 4], "right": [0, 2]}
    assert prequential_metrics(record, 12, 4) == {}
    assert prequential_metrics({"sizes": [4, -1], "right": [0]}, 3, 4) == {}
    assert prequential_metrics({}, 0, 4) == {}
    for sizes, right, window in (([4], [5], 1), ([4], [1, 1], 1), ([4], [1], 0)):
        with pytest.raises(ValueError, match="need"):
            prequential_points(sizes, right, window)


class Parrot(Learner):
    """Names the class of the input, with batch norm and dropout that would tell of training."""

    def __init__(self, *, writes: bool = False) -> None:
        super().__init__(nn.Sequential(nn.BatchNorm1d(1), nn.Dropout(0.5)))
        self.writes, self.asked = writes, 0

    def predict(self, batch: Batch) -> Prediction:
        self.asked += 1
        assert not self.model.training
        assert not torch.is_grad_enabled()
        self.model(batch.inputs)
        texts = ("a",) * len(batch) if self.writes else None
        return Prediction(batch.inputs[:, 0].long(), texts=texts)


def load(rows: torch.Tensor) -> Batch:
    """Row i is of class i; odd ones look like another."""
    inputs = torch.where(rows % 2 == 0, rows, rows + 1)[:, None].float()
    return Batch(inputs, torch.ones(len(rows), dtype=torch.int64), rows, rows)


def test_the_learner_is_asked_and_left_as_it_was() -> None:
    learner, record = Parrot(), {}
    learner.model.train()
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    random = torch.get_rng_state()
    asking = Prequential(learner, load, record, texts=False)
    for rows in torch.arange(10).split(4):
        asking.take(rows)
    assert record == {"sizes": [4, 4, 2], "right": [0, 2, 1]}  # nothing is known before the first
    assert learner.asked == 2
    assert learner.model.training
    assert torch.equal(torch.get_rng_state(), random)
    after = learner.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_learner_that_writes_is_asked_once_unless_it_is_wanted() -> None:
    for wanted, count in ((False, 1), (True, 3)):
        learner, record = Parrot(writes=True), {}
        for rows in torch.arange(16).split(4):
            asking = Prequential(learner, load, record, texts=wanted)
            if asking.asks:
                asking.take(rows)
        assert learner.asked == count
        assert bool(prequential_metrics(record, 16, 4)) == wanted
