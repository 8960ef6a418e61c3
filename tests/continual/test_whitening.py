"""Whitened heads: what is counted, who keeps which transform, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from continual.evaluation import predict
from continual.learner import LEARNERS
from continual.online import OnlineStrategy
from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark
from multimodal.errors import UserError
from multimodal.models.whitening import Whitening

WHITE = {"whiten": True}
ONLINE: list[dict[str, Any]] = [
    {"name": "linear_probe"},
    {"name": "finetune"},
    {"name": "er", "memory_size": 6},
    {"name": "er_ace", "memory_size": 6},
    {"name": "derpp", "memory_size": 6},
    {"name": "ewcpp", "memory_size": 6, "refresh": 10},
    {"name": "lwf", "teacher": "ema"},
    {"name": "rm", "memory_size": 6, "memory_epochs": 3},
    {"name": "clib", "memory_size": 6},
    {"name": "l2p"},
    {"name": "dual_prompt"},
    {"name": "mvp"},
    {"name": "mvp_r", "memory_size": 6},
]
EPOCHS = ["finetune", "linear_probe", "replay", "cumulative", "joint", "er", "er_ace"]


@pytest.fixture(scope="session")
def online(data) -> Any:
    config: Any = SCENARIOS.parse({"name": "si_blurry", "num_tasks": 2, "eval_period": 5})
    return config.build(data.manifest, 3)


def run_online(learner: Any, data: Any, online: Any, **hooks: Any) -> None:
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    strategy = OnlineStrategy(
        learner=learner,
        stream=online,
        gather=data.signals.gather,
        optimizer=torch.optim.Adam(trained, lr=5e-3),
        seed=1,
        train_mb_size=5,
        iterations=3,
        **hooks,
    )
    for task in as_benchmark(online, data.signals.gather).train_stream:
        strategy.train(task, eval_streams=[])


def white_of(learner: Any) -> Whitening:
    assert learner.classifier.whitening is not None
    return learner.classifier.whitening


@pytest.mark.parametrize("fields", ONLINE, ids=lambda f: f["name"])
def test_every_recording_of_an_online_stream_counts_once(
    fields, data, online, make_learner
) -> None:
    """Not its replays, its other steps, its reviews, and not what it is tested on."""
    learner = make_learner(**fields, head=WHITE)
    rows = np.concatenate([e.train for e in online.experiences])
    counted: list[int] = []

    def look(strategy: Any) -> None:
        predict(learner, strategy.batches(online.experiences[-1].test))
        counted.append(int(white_of(learner).count))

    run_online(learner, data, online, after_step=look)
    white = white_of(learner)
    assert counted[0] == 5
    assert int(white.count) == len(rows)
    assert sorted(counted) == counted
    if not hasattr(learner.model, "prompted"):  # prompts change what is counted while it is met
        x = learner.classifier.embed(data.signals.gather(torch.as_tensor(rows))).double()
        torch.testing.assert_close(white.mean, x.mean(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            white.scatter / len(rows), torch.cov(x.T, correction=0), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", EPOCHS)
def test_every_recording_of_experiences_counts_once(
    name, data, stream, make_learner, make_strategy
) -> None:
    """Not in later epochs, nor where a later experience has it again."""
    learner = make_learner(name, head=WHITE)
    strategy, benchmark = make_strategy(learner, train_epochs=2)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    rows = np.concatenate([e.train for e in stream.experiences])
    x = learner.classifier.embed(data.signals.gather(torch.as_tensor(rows))).double()
    white = white_of(learner)
    assert int(white.count) == len(rows)
    torch.testing.assert_close(white.mean, x.mean(0), rtol=1e-5, atol=1e-5)


def test_a_batch_without_a_new_recording_counts_none(data, stream, make_learner) -> None:
    """As cumulative training meets them; encoders cannot embed no recordings."""
    learner = make_learner("cumulative", head=WHITE)
    batch = data.signals.gather(torch.as_tensor(stream.experiences[0].train[:3]))
    learner.arrive(batch)
    learner.arrive(batch.where(torch.zeros(3, dtype=torch.bool)))
    assert int(white_of(learner).count) == 3


def test_a_prompt_method_counts_what_its_head_reads(data, online, make_learner) -> None:
    for name in ("l2p", "dual_prompt", "mvp"):
        learner = make_learner(name, head=WHITE)
        batch = data.signals.gather(torch.as_tensor(online.experiences[0].train[:5]))
        learner.model.eval()
        inside: list[Tensor] = []
        learner.classifier.head.register_forward_pre_hook(
            lambda _, args, inside=inside: inside.append(args[0].detach())
        )
        with torch.no_grad():
            learner.model(batch)
        raw = inside.pop()
        learner.arrive(batch)
        torch.testing.assert_close(
            white_of(learner).mean, raw.double().mean(0), rtol=1e-5, atol=1e-5
        )
        with torch.no_grad():
            learner.model(batch)
        torch.testing.assert_close(inside.pop(), white_of(learner)(raw))


@pytest.mark.parametrize("teacher", [5, "ema"])
def test_a_teacher_keeps_the_whitening_of_its_time(teacher, data, online, make_learner) -> None:
    """Its answers stay the same when the transform moves and the head does not."""
    learner = make_learner("lwf", teacher=teacher, head=WHITE)
    parts = torch.as_tensor(online.experiences[0].train[:20]).split(5)
    first, second, *_ = (data.signals.gather(rows) for rows in parts)
    learner.model.eval()
    learner.meet(first.indices, first.labels)
    learner.arrive(first)
    with torch.no_grad():
        expected = learner.model(second)
    learner.after_step()
    learner.observe(first)
    assert learner.old
    learner.arrive(second)
    with torch.no_grad():
        now = learner.model(second)
        past = torch.func.functional_call(learner.classifier, learner.old, (second,))
    assert not torch.allclose(now, expected, atol=1e-2)
    torch.testing.assert_close(past, expected, rtol=1e-3, atol=1e-3)


def test_a_bad_condition_no_longer_decides_what_a_head_learns() -> None:
    """Two classes apart in a direction of little variance: the same steps, far more learned."""
    generator = torch.Generator().manual_seed(0)
    x = 30 * torch.randn(400, 8, generator=generator) @ torch.diag(torch.tensor([1.0] * 7 + [0.03]))
    y = (torch.rand(400, generator=generator) > 0.5).long()
    x[:, 7] += 4 * y
    found = []
    for white in (None, Whitening(8, eps=1e-4)):
        head = torch.nn.Linear(8, 2)
        optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
        for rows in torch.arange(400).split(10):
            if white is not None:
                white.update(x[rows])
            for _ in range(3):
                optimizer.zero_grad()
                inputs = x[rows] if white is None else white(x[rows])
                torch.nn.functional.cross_entropy(head(inputs), y[rows]).backward()
                optimizer.step()
        answers = head(x if white is None else white(x)).argmax(1)
        found.append(float((answers == y).float().mean()))
    assert found[1] > found[0] + 0.1
    assert found[1] > 0.93


@pytest.mark.parametrize("name", ["finetune", "er", "lwf", "replay"])
def test_a_trained_encoder_is_refused(name, make_learner) -> None:
    fields = {"train_encoder": True} if name == "finetune" else {}
    learner = make_learner(name, **fields)  # without a head: the encoder is left trainable
    with pytest.raises(UserError, match=r"head\.whiten: .*encoder\.train=none"):
        learner.classifier.whiten("head.whiten")


@pytest.mark.parametrize("name", ["majority", "slda", "rls"])
def test_learners_without_a_trained_head_are_refused(name) -> None:
    with pytest.raises(ValidationError, match=f"learner '{name}' trains no linear head to whiten"):
        LEARNERS.parse({"name": name, "head": WHITE})


def test_a_plain_head_is_in_no_record() -> None:
    """So that runs from before there was a choice keep their hash; and each choice has one name."""
    plain = LEARNERS.parse("er")
    assert "head" not in plain.dump()
    assert LEARNERS.parse({"name": "er", "head": {"whiten": False}}) == plain
    white = LEARNERS.parse({"name": "er", "head": WHITE})
    assert white.dump()["head"] == {"whiten": True, "eps": 1e-2}
    assert LEARNERS.parse(white.dump()) == white
    with pytest.raises(ValidationError, match=r"eps=0\.1 is of whitening; set whiten: true"):
        LEARNERS.parse({"name": "er", "head": {"eps": 0.1}})
    with pytest.raises(ValidationError, match="greater than 0"):
        LEARNERS.parse({"name": "er", "head": {"whiten": True, "eps": 0}})
