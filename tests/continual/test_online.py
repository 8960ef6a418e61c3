"""The online loop: order, steps, borders, resumption, and evaluations that leave no trace."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from continual.anytime import Anytime
from continual.evaluation import evaluating
from continual.online import OnlineStrategy
from continual.scenarios import SCENARIOS, Stream
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.strategy import Position
from multimodal.errors import UserError
from tests.continual.random_states import random_states, restore

WHITE = {"whiten": True}
ALL: list[dict[str, Any]] = [
    {"name": "majority"},
    {"name": "finetune"},
    {"name": "finetune", "batch_class_mask": True},
    {"name": "finetune", "merge": {"power": -1.0}},
    {"name": "linear_probe"},
    {"name": "er", "memory_size": 6},
    {"name": "er_ace", "memory_size": 6},
    {"name": "derpp", "memory_size": 6},
    {"name": "palm", "memory_size": 6},
    {"name": "palm", "memory_size": 0, "contrast_on": "prototypes"},
    {"name": "ewcpp", "memory_size": 6},
    {"name": "ewcpp", "refresh": 10},
    {"name": "lwf"},
    {"name": "lwf", "teacher": "ema"},
    {"name": "lwf", "teacher": 10},
    {"name": "rm", "memory_size": 6, "memory_epochs": 3},
    {"name": "rm", "memory_size": 6, "memory_epochs": 2, "candidates": "task"},
    {"name": "clib", "memory_size": 6},
    {"name": "l2p"},
    {"name": "dual_prompt"},
    {"name": "mvp"},
    {"name": "mvp_r", "memory_size": 6},
    {"name": "slda"},
    {"name": "rls", "hidden": 20, "ridge": 1.0},
    {"name": "rls", "hidden": 20},
    {"name": "er", "memory_size": 6, "head": WHITE},
    {"name": "lwf", "teacher": 10, "head": WHITE},
    {"name": "dual_prompt", "head": WHITE},
    {"name": "mvp_r", "memory_size": 6, "head": WHITE},
]


@pytest.fixture(scope="session")
def online(data) -> Stream:
    config: Any = SCENARIOS.parse({"name": "si_blurry", "num_tasks": 2, "eval_period": 5})
    return config.build(data.manifest, 3)


@pytest.fixture
def make_online(data, online):
    def make(learner, **changes: Any):
        trained = [p for p in learner.model.parameters() if p.requires_grad]
        fields = {
            "optimizer": torch.optim.Adam([{"params": trained}], lr=5e-3),
            "seed": 1,
            "train_mb_size": 5,
            "iterations": 2,
        }
        strategy = OnlineStrategy(
            learner=learner, stream=online, gather=data.signals.gather, **{**fields, **changes}
        )
        return strategy, as_benchmark(online, data.signals.gather)

    return make


def run(strategy, benchmark) -> None:
    for task in list(benchmark.train_stream)[strategy.position.experience :]:
        strategy.train(task, eval_streams=[])


def state_of(learner) -> torch.Tensor:
    found: list[torch.Tensor] = []

    def collect(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.append(value.double().flatten().nan_to_num(-7.0))
        elif isinstance(value, dict):
            for key in sorted(value):
                collect(value[key])

    collect(learner.state_dict())
    return torch.cat(found)


def test_equals_a_bare_loop_bit_for_bit(data, online, make_learner, make_online) -> None:
    learner = make_learner("finetune")
    strategy, benchmark = make_online(learner)
    torch.manual_seed(5)
    run(strategy, benchmark)

    other = make_learner("finetune").model
    optimizer = torch.optim.Adam(other.parameters(), lr=5e-3)
    torch.manual_seed(5)
    other.train()
    exposed: set[int] = set()
    for task in online.experiences:
        for rows in torch.as_tensor(task.train).split(5):
            batch = data.signals.gather(rows)
            exposed |= set(batch.labels.tolist())
            hidden = [c for c in range(4) if c not in exposed]
            for _ in range(2):
                optimizer.zero_grad()
                logits = other.head(other.embed(batch))
                logits[:, hidden] = float("-inf")
                cross_entropy(logits, batch.labels).backward()
                optimizer.step()
    got = torch.cat([p.flatten() for p in learner.model.parameters()])
    assert torch.equal(got, torch.cat([p.flatten() for p in other.parameters()]))


@pytest.mark.parametrize("fields", ALL, ids=lambda f: "-".join(map(str, f.values())))
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_resumed_anywhere_equals_uninterrupted(fields, stop, make_learner, make_online) -> None:
    def finish(after_step, saved: dict[str, Any] | None = None) -> torch.Tensor:
        learner = make_learner(**fields)
        strategy, benchmark = make_online(learner, after_step=after_step)
        if saved:
            learner.load_state_dict(saved["learner"])
            strategy.resume(Position(**saved["position"]), saved["optimizer"])
            restore(saved["random"])
        run(strategy, benchmark)
        return state_of(learner)

    kept: dict[str, Any] = {}

    def snapshot(strategy) -> None:
        if strategy.position.total_steps == stop:
            kept.update(
                learner=deepcopy(strategy.learner.state_dict()),
                optimizer=deepcopy(strategy.optimizer.state_dict()),
                position=asdict(strategy.position),
                random=random_states(),
            )

    torch.manual_seed(5)
    whole = finish(snapshot)
    assert kept
    torch.manual_seed(99)
    assert torch.equal(whole, finish(None, kept))


@pytest.mark.parametrize("fields", ALL, ids=lambda f: "-".join(map(str, f.values())))
def test_evaluations_leave_no_trace_and_no_future_class_is_named(
    fields, data, online, make_learner, make_online
) -> None:
    ends, named = [], []
    for often in (False, True):
        learner = make_learner(**fields)

        def look(strategy, learner=learner) -> None:
            anytime = Anytime(learner, online, strategy.batches)
            point = anytime.point(strategy.samples_seen)
            exposed = anytime.exposed(strategy.samples_seen)
            assert [t > 0 for t in point.total] == exposed.tolist()
            batch = data.signals.gather(torch.as_tensor(online.experiences[-1].test))
            with evaluating(learner):
                answers = learner.predict(batch).labels
            named.append(exposed[answers.numpy()].all())

        torch.manual_seed(5)
        strategy, benchmark = make_online(learner, after_step=look if often else None)
        run(strategy, benchmark)
        ends.append((state_of(learner), torch.get_rng_state()))
    assert all(named)
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_every_recording_is_met_once_in_the_drawn_order(online, make_learner, make_online) -> None:
    learner, met, steps, seen = make_learner("er", memory_size=4), [], [], []
    observe, loss = learner.observe, learner.loss
    learner.observe = lambda batch: (met.extend(batch.indices.tolist()), observe(batch))
    learner.loss = lambda batch, memory: (
        steps.append(batch.indices.tolist()),
        loss(batch, memory),
    )[1]
    strategy, benchmark = make_online(learner, after_step=lambda s: seen.append(s.samples_seen))
    run(strategy, benchmark)
    order = [row for task in online.experiences for row in task.train.tolist()]
    assert met == order
    assert steps[::2] == steps[1::2]
    assert [row for part in steps[::2] for row in part] == order
    assert seen[-1] == len(order)
    assert seen == np.cumsum([len(part) for part in steps[::2]]).tolist()
    assert strategy.position == Position(2, 0, 0, total_steps=len(seen))


def test_borders_are_told_to_those_who_ask_only(make_learner, make_online) -> None:
    for name, told in (("er", 0), ("lwf", 2)):
        learner, calls = make_learner(name), []
        end = learner.end_experience
        learner.end_experience = lambda info, end=end, calls=calls: (calls.append("end"), end(info))
        learner.begin_experience = lambda info, calls=calls: calls.append("begin")
        run(*make_online(learner))
        assert calls == ["end"] * told


def test_optimiser_state_lives_through_borders(make_learner, make_online) -> None:
    learner = make_learner("finetune")
    strategy, benchmark = make_online(learner)
    run(strategy, benchmark)
    (group,) = strategy.optimizer.param_groups
    steps = {float(strategy.optimizer.state[p]["step"]) for p in group["params"]}
    assert steps == {2.0 * strategy.position.total_steps}


def test_what_is_to_come_is_known_before_the_first_step(make_learner, make_online) -> None:
    """Of a learner that reviews a memory, which is empty by then."""
    strategy, benchmark = make_online(make_learner("rm", memory_size=6, memory_epochs=4))
    expected = strategy.total_steps
    run(strategy, benchmark)
    assert strategy.position.total_steps == expected == strategy.total_steps


def test_reviews_of_the_memory_follow_each_task(make_learner, make_online) -> None:
    learner = make_learner("rm", memory_size=6, memory_epochs=4)
    rates: list[float] = []
    loss = learner.loss

    def spy(batch, memory):
        rates.append(strategy.optimizer.param_groups[0]["lr"] / 5e-3)
        return loss(batch, memory)

    learner.loss = spy
    strategy, benchmark = make_online(learner)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    stream_steps = 2 * -(-len(strategy.rows[0]) // 5)
    assert rates[:stream_steps] == [1.0] * stream_steps
    expected = [0.1, 0.1, 1.0, 1.0, 1.0, 1.0, 0.505, 0.505]  # epochs of two batches
    assert rates[stream_steps:] == pytest.approx(expected)


def test_learners_that_come_back_are_refused(make_learner, make_online) -> None:
    for name in ("replay", "cumulative", "joint"):
        with pytest.raises(UserError, match="shows each of them once"):
            make_online(make_learner(name))


def test_periodic_points_stand_at_the_first_border_after_them(data, online, make_learner) -> None:
    anytime = Anytime(make_learner("majority"), online, lambda rows: iter(()))
    assert anytime.counts == [5, 10, 15, 20, 25, 30]
    order = np.concatenate([e.train for e in online.experiences])
    for count in range(len(order) + 1):
        met = set(data.manifest.labels[order[:count]].tolist())
        assert set(np.flatnonzero(anytime.exposed(count)).tolist()) == met


def test_a_stream_is_not_touched_by_a_learner(online) -> None:
    with pytest.raises(AttributeError):
        online.online = None
    assert replace(online, experiences=online.experiences[:1]).online is online.online
