"""Learner palm: its scores and loss against slow sums, prototypes of a stream, exact resumption."""

from __future__ import annotations

import io
import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.strategy import Position
from multimodal.encoders.compact import CompactEncoder
from multimodal.errors import UserError
from multimodal.registry import Config
from tests.continual.online_steps import class_pairs, eval_mode, step
from tests.continual.toy_stream import info

SMALL = {"projection": 8, "per_class": 3, "nearest": 2}


@pytest.fixture
def batches(data) -> tuple[Any, Any]:
    """Classes 0 and 1, and classes 2 and 3."""
    return class_pairs(data)


def prototypes(learner) -> torch.Tensor:
    return learner.mixture.palm.prototypes


def carried_over(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_class_scores_by_all_of_its_prototypes(make_learner, batches) -> None:
    learner = eval_mode(make_learner("palm", **SMALL, temperature=0.3), batches[0])
    scores = learner.predict(batches[0]).scores.detach().numpy()
    with torch.no_grad():
        z = learner.mixture.projection(learner.classifier.embed(batches[0])).numpy()
    for row, own in zip(z, scores, strict=True):
        own_z = row / math.sqrt(sum(x * x for x in row))
        for label in (0, 1):
            sums = [math.exp(float(p @ own_z) / 0.3) for p in prototypes(learner)[label].numpy()]
            assert own[label] == pytest.approx(math.log(sum(sums)), abs=1e-5)
        assert np.isneginf(own[2:]).all()
    assert learner.predict(batches[0]).labels.tolist() == scores.argmax(1).tolist()


def test_one_prototype_that_never_moves_is_cross_entropy_with_fixed_weights(
    make_learner, batches
) -> None:
    fields = {"projection": 8, "per_class": 1, "nearest": 1, "momentum": 1.0, "contrast": 0.0}
    learner = eval_mode(make_learner("palm", **fields), *batches)
    found = learner.loss(*batches)
    with torch.no_grad():
        scores = torch.cat([learner.model(b) for b in batches])
    labels = torch.cat([b.labels for b in batches])
    torch.testing.assert_close(
        found.value.detach(), torch.nn.functional.cross_entropy(scores, labels)
    )
    torch.testing.assert_close(found.outputs, scores[:6])


def test_classes_to_come_neither_move_nor_repel(make_learner, batches) -> None:
    learner = eval_mode(make_learner("palm", **SMALL), batches[0])
    learner.model.train()
    before = prototypes(learner).clone()
    torch.manual_seed(0)
    value = learner.loss(batches[0], None).value
    moved = (prototypes(learner) - before).abs().amax((1, 2)) > 0
    assert moved.tolist() == [True, True, False, False]
    other = eval_mode(make_learner("palm", **SMALL), batches[0])
    prototypes(other)[2:] = prototypes(other)[2:].flip(0).roll(1, 2)
    other.model.train()
    torch.manual_seed(0)
    assert torch.equal(other.loss(batches[0], None).value, value)


def test_old_prototypes_move_with_the_memory_alone(make_learner, batches) -> None:
    for memory, old in ((None, False), (batches[0], True)):
        learner = eval_mode(make_learner("palm", **SMALL), *batches)
        learner.model.train()
        before = prototypes(learner).clone()
        learner.loss(batches[1], memory)
        moved = (prototypes(learner) - before).abs().amax((1, 2)) > 0
        assert moved.tolist() == [old, old, True, True]
        lengths = prototypes(learner).norm(dim=2)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_batch_class_mask_leaves_out_what_the_batch_lacks(make_learner, batches) -> None:
    masked = eval_mode(make_learner("palm", **SMALL, batch_class_mask=True), *batches)
    alone = eval_mode(make_learner("palm", **SMALL), batches[1])
    whole = eval_mode(make_learner("palm", **SMALL), *batches)
    values = [learner.loss(batches[1], None).value for learner in (masked, alone, whole)]
    torch.testing.assert_close(values[0], values[1])
    assert values[2] > values[0]
    assert float(masked.loss(batches[1], None).terms["classes_in_batch"]) == 2


def test_contrast_reaches_the_encoder_at_the_published_momentum_on_means_alone(
    make_learner, batches
) -> None:
    """What ``contrast`` adds to the gradient of the projection's last layer."""

    def gradient(**fields: Any) -> torch.Tensor:
        learner = eval_mode(make_learner("palm", **SMALL, momentum=0.999, **fields), batches[0])
        learner.loss(batches[0], None).value.backward()
        return learner.mixture.projection[-1].weight.grad

    without = gradient(contrast=0.0)
    kinds = ("prototypes", "means")
    published, means = (float((gradient(contrast_on=k) - without).norm()) for k in kinds)
    assert 0 < published < 0.05 * means


def test_it_learns_the_tones_and_forgets_less_with_a_memory(
    data, stream, make_learner, make_strategy
) -> None:
    found = {}
    for memory in (0, 12):
        learner = make_learner("palm", memory_size=memory, **SMALL)
        strategy, benchmark = make_strategy(learner, train_epochs=12)
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
        rows = torch.as_tensor(np.concatenate([e.test for e in stream.experiences]))
        batch = data.signals.gather(rows)
        learner.model.eval()
        with torch.no_grad():
            right = learner.predict(batch).labels == batch.labels
        found[memory] = float(right.float().mean())
    assert found[12] >= 0.8
    assert found[12] > found[0]


@pytest.mark.parametrize("memory_size", [0, 4])
def test_a_run_goes_on_exactly(memory_size, make_learner, make_strategy) -> None:
    fields = {"memory_size": memory_size, **SMALL}
    saved: dict[str, Any] = {}

    def keep(strategy: Any) -> None:
        if strategy.position.total_steps == 7:
            states = (strategy.learner.state_dict(), strategy.optimizer.state_dict())
            learned, optimizer = (carried_over(deepcopy(state)) for state in states)
            position, random = strategy.position, torch.get_rng_state()
            saved.update(state=learned, optimizer=optimizer, position=position, random=random)

    whole = make_learner("palm", **fields)
    strategy, benchmark = make_strategy(whole, after_step=keep)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    assert saved["position"] != Position()
    resumed = make_learner("palm", **fields)
    with torch.no_grad():  # nothing that it was built with counts
        for parameter in resumed.model.parameters():
            parameter.add_(1.0)
    prototypes(resumed).neg_()
    strategy, benchmark = make_strategy(resumed)
    resumed.load_state_dict(saved["state"])
    strategy.resume(saved["position"], saved["optimizer"])
    torch.set_rng_state(saved["random"])
    for experience in list(benchmark.train_stream)[saved["position"].experience :]:
        strategy.train(experience, eval_streams=[])
    for name, tensor in whole.weights().items():
        assert torch.equal(resumed.weights()[name], tensor), name
    if memory_size:
        assert torch.equal(resumed.memory.indices, whole.memory.indices)


def test_prototypes_begin_where_the_seed_says(data) -> None:
    def begun(seed: int) -> torch.Tensor:
        encoder = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.0)
        model = Classifier(data.adapter.front_end(), encoder, 4)
        config: Any = LEARNERS.parse({"name": "palm", **SMALL})
        return prototypes(config.build(LearnerContext(model, seed=seed)))

    assert torch.equal(begun(1), begun(1))
    assert not torch.equal(begun(1), begun(2))


def test_a_whitened_head_reads_what_was_whitened(stream, data, make_learner, batches) -> None:
    learner = make_learner("palm", **SMALL, head={"whiten": True})
    learner.begin_experience(info(stream, 0, data))
    before = learner.model(batches[0])
    learner.arrive(batches[1])
    assert not torch.allclose(learner.model(batches[0]), before)
    step(eval_mode(learner, batches[0]), batches[0])


def test_what_does_not_fit_is_refused(data) -> None:
    with pytest.raises(ValueError, match="nearest=4 of per_class=3 prototypes; set at most"):
        LEARNERS.parse({"name": "palm", "per_class": 3, "nearest": 4})
    with pytest.raises(ValueError, match="momentum"):
        LEARNERS.parse({"name": "palm", "momentum": 1.5})
    encoder = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.0)
    model = Classifier(data.adapter.front_end(), encoder, 4, multi_label=True)
    config: Config = LEARNERS.parse("palm")
    with pytest.raises(UserError, match="palm takes each recording for one of its classes") as told:
        config.build(LearnerContext(model, seed=1))  # pyright: ignore[reportAttributeAccessIssue]
    assert "\n" not in str(told.value)
