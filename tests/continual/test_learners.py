from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from continual.learner import LEARNERS, ExperienceInfo
from multimodal.batch import Batch
from tests.continual.toy_stream import info


@pytest.fixture
def batches(data, stream) -> tuple[Batch, Batch]:
    """A stream batch of the second experience and a memory batch of the first."""
    first, second = (e.train[::3] for e in stream.experiences)
    both = data.signals.gather(torch.cat([torch.as_tensor(second), torch.as_tensor(first)]))
    return both.rows(0, 6), both.rows(6, 12)


def test_logits_of_classes_not_exposed_are_minus_infinity(stream, data, make_learner, batches):
    learner = make_learner("finetune")
    learner.model.eval()
    untrained = learner.model(batches[0])
    assert torch.isfinite(untrained).all()
    learner.begin_experience(info(stream, 0, data))
    logits = learner.model(batches[0])
    shown = list(stream.experiences[0].classes)
    hidden = [c for c in range(4) if c not in shown]
    assert torch.isinf(logits[:, hidden]).all()
    torch.testing.assert_close(logits[:, shown], untrained[:, shown])
    assert set(learner.predict(batches[0]).labels.tolist()) <= set(shown)


def test_replay_is_cross_entropy_over_stream_and_memory_alike(stream, data, make_learner, batches):
    learner = make_learner("replay")
    learner.model.eval()
    learner.begin_experience(info(stream, 1, data))
    loss = learner.loss(*batches)
    logits = torch.cat([learner.model(b) for b in batches])
    labels = torch.cat([b.labels for b in batches])
    torch.testing.assert_close(loss.value, cross_entropy(logits, labels))
    torch.testing.assert_close(loss.outputs, logits[:6])


def test_er_ace_is_its_two_terms(stream, data, make_learner, batches) -> None:
    learner = make_learner("er_ace")
    learner.model.eval()
    learner.begin_experience(info(stream, 1, data))
    present = sorted(set(batches[0].labels.tolist()))
    stream_logits, memory_logits = (learner.model(b) for b in batches)
    renamed = torch.tensor([present.index(c) for c in batches[0].labels.tolist()])
    expected = cross_entropy(stream_logits[:, present], renamed)
    torch.testing.assert_close(learner.loss(batches[0], None).value, expected)
    expected = expected + cross_entropy(memory_logits, batches[1].labels)
    torch.testing.assert_close(learner.loss(*batches).value, expected)


def test_er_ace_stream_gradient_never_reaches_absent_classes(stream, data, make_learner, batches):
    learner = make_learner("er_ace")
    learner.begin_experience(info(stream, 1, data))
    learner.loss(batches[0], None).value.backward()
    grad = learner.model.head.weight.grad
    absent = [c for c in range(4) if c not in batches[0].labels.tolist()]
    assert absent
    assert grad[absent].abs().max() == 0
    assert grad.abs().max() > 0


def test_er_ace_feeds_its_reservoir_once_a_recording(make_learner, make_strategy) -> None:
    learner = make_learner("er_ace", memory_size=1000)
    strategy, benchmark = make_strategy(learner, train_epochs=3)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    assert sorted(learner.memory.indices.tolist()) == sorted(strategy.rows[0].tolist())


@pytest.mark.parametrize("policy", ["reservoir", "class_balanced", "herding"])
def test_replay_remembers_past_experiences_only(policy, make_learner, make_strategy) -> None:
    learner = make_learner("replay", memory_size=6, policy=policy)
    strategy, benchmark = make_strategy(learner)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    assert len(learner.memory) == 6
    assert set(learner.memory.indices.tolist()) <= set(strategy.rows[0].tolist())


def test_linear_probe_trains_the_head_alone(make_learner, make_strategy) -> None:
    learner = make_learner("linear_probe")
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    strategy, benchmark = make_strategy(learner)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    changed = {k for k, v in learner.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias", "exposed"}


def test_joint_plans_one_experience_and_cumulative_growing_ones(stream, make_learner) -> None:
    rows = [e.train for e in stream.experiences]
    joint = make_learner("joint").plan(rows)
    assert [sorted(r.tolist()) for r in joint] == [sorted(rows[0].tolist() + rows[1].tolist())]
    grown = make_learner("cumulative").plan(rows)
    assert [len(r) for r in grown] == [len(rows[0]), len(rows[0]) + len(rows[1])]


def test_majority_answers_the_most_frequent_class_so_far(stream, data, make_learner, batches):
    learner = make_learner("majority")
    first = info(stream, 0, data)
    labels = [2, 2, 1]
    learner.end_experience(
        ExperienceInfo(**{**vars(first), "labels": torch.tensor(labels).numpy()})
    )
    assert set(learner.predict(batches[0]).labels.tolist()) == {2}
    again = make_learner("majority")
    again.load_state_dict(learner.state_dict())
    assert set(again.predict(batches[0]).labels.tolist()) == {2}


@pytest.mark.parametrize("name", ["finetune", "replay", "er_ace", "joint", "cumulative"])
def test_every_trained_learner_learns_the_tones(name, data, stream, make_learner, make_strategy):
    from continual.evaluation import Evaluator

    torch.manual_seed(0)
    learner = make_learner(name)
    strategy, benchmark = make_strategy(learner, train_epochs=25)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    accuracies, details = Evaluator(learner, stream, strategy.batches).test()
    assert accuracies[-1] >= 0.9
    confusion = details["confusion_matrix"]
    assert np.sum(confusion) == sum(len(e.test) for e in stream.experiences)


def test_every_registered_learner_is_tested_here() -> None:
    ours = {"finetune", "joint", "cumulative", "replay", "er_ace", "linear_probe", "majority"}
    assert ours <= set(LEARNERS.names())
