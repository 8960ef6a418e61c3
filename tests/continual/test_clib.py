"""CLIB: what its memory keeps and credits, and that it trains in experiences too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from continual.learners.clib import ImportanceMemory
from continual.rates import TwoRates
from tests.continual.online_steps import class_pairs, eval_mode, step


def run(strategy: Any, benchmark: Any) -> None:
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])


def test_it_replaces_the_least_important_of_the_largest_class() -> None:
    memory = ImportanceMemory(4, seed=0)
    memory.update([0, 1, 2, 3], [0, 0, 0, 1])
    assert memory.importance.tolist() == [0.0] * 4
    memory.importance.copy_(torch.tensor([0.5, 0.1, 0.3, 0.9]))
    memory.update([4], [1])
    assert memory.indices.tolist() == [0, 4, 2, 3]
    assert memory.importance[1] == pytest.approx(0.9)  # the mean of its class
    memory.update([5], [2])
    assert memory.indices.tolist() == [0, 4, 5, 3]
    assert memory.importance[2] == pytest.approx((0.5 + 0.9 + 0.3 + 0.9) / 4)


@pytest.mark.parametrize("period", [1, 2])
def test_it_credits_recordings_for_the_fall_of_the_loss(data, make_learner, period) -> None:
    batches = class_pairs(data)
    settings = {"memory_size": 6, "memory_batch_size": 3, "importance_period": period}
    learner = eval_mode(make_learner("clib", **settings), batches[0])
    learner.read = data.signals.gather
    before = learner._all_losses()
    learner.losses[:6], learner.memory.fresh[:6] = before, False
    used = []
    for _ in range(period):
        used.append(learner.draw())
        step(learner, batches[1], data.signals.gather(used[-1]))
    after = learner._all_losses()
    change = float((after - before).mean())
    slots = torch.isin(learner.memory.indices, torch.cat(used))
    expected = torch.where(slots, -0.1 * change, 0.0)
    torch.testing.assert_close(learner.memory.importance, expected)
    assert change != 0.0
    assert len(learner.used) == 0


def test_in_experiences_each_recording_enters_its_memory_once(make_learner, make_strategy) -> None:
    learner = make_learner("clib", memory_size=100)
    taken: list[int] = []
    take_in = learner.take_in

    def spy(rows, labels) -> None:
        taken.extend(rows.tolist())
        take_in(rows, labels)

    learner.take_in = spy
    strategy, benchmark = make_strategy(learner)
    before = torch.cat([p.detach().clone().flatten() for p in learner.model.parameters()])
    run(strategy, benchmark)
    assert sorted(taken) == sorted(torch.cat([torch.as_tensor(r) for r in strategy.rows]).tolist())
    assert sorted(learner.memory.indices.tolist()) == sorted(taken)
    after = torch.cat([p.detach().flatten() for p in learner.model.parameters()])
    assert not torch.equal(before, after)


def test_its_rate_is_that_of_the_next_step_in_experiences_too(make_learner, make_strategy) -> None:
    learner = make_learner("clib", memory_size=100)
    strategy, benchmark = make_strategy(learner, train_epochs=3)
    loss, found = learner.loss, []

    def spy(batch, memory_batch):
        found.append(strategy.optimizer.param_groups[0]["lr"] / 3e-3)
        return loss(batch, memory_batch)

    learner.loss = spy
    run(strategy, benchmark)
    assert len(found) == 18
    assert found == pytest.approx([1.0] * 10 + [0.95] * 8)


def test_a_state_of_an_earlier_version_goes_on(data, make_learner) -> None:
    learner = eval_mode(make_learner("clib", memory_size=6), class_pairs(data)[0])
    state = {k: v for k, v in learner.state_dict().items() if k not in ("rates", "used")}
    old = {**state, "high": 0.9, "low_turn": True, "falls": [[0.1], []], "rate": 0.855}
    again = make_learner("clib", memory_size=6)
    with pytest.warns(UserWarning, match="begun by an earlier version"):
        again.load_state_dict(old)
    assert again.rate == again.rates.rate == TwoRates(0.9).high
