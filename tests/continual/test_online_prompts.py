"""Online methods that learn prompts of a frozen encoder: L2P, DualPrompt, MVP."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from continual.prompting import prompted_blocks
from multimodal.batch import Batch
from multimodal.errors import UserError
from tests.continual.online_steps import class_pairs, eval_mode, step


@pytest.fixture
def batches(data) -> tuple[Batch, Batch]:
    return class_pairs(data)


@pytest.mark.parametrize("name", ["l2p", "dual_prompt", "mvp"])
def test_only_prompts_keys_masks_and_head_are_trained(name, make_learner, batches) -> None:
    learner = make_learner(name)
    learner.meet(batches[0].indices, batches[0].labels)
    frozen = {k: v.clone() for k, v in learner.classifier.encoder.state_dict().items()}
    learner.loss(batches[0], None).value.backward()
    with_gradient = {n for n, p in learner.model.named_parameters() if p.grad is not None}
    expected = {"prompts", "pool.keys", "classifier.head.weight", "classifier.head.bias"}
    expected |= {"shared"} if name != "l2p" else set()
    expected |= {"masks"} if name == "mvp" else set()
    assert with_gradient == expected
    for parameter in (learner.model.prompts, learner.model.pool.keys):
        assert parameter.grad.abs().sum() > 0
    after = learner.classifier.encoder.state_dict()
    assert all(torch.equal(frozen[k], after[k]) for k in frozen)
    assert not any(key.startswith("classifier.encoder") for key in learner.weights())


def test_published_numbers_of_parameters_for_12_blocks() -> None:
    assert prompted_blocks(12) == ([0, 1], [2, 3, 4])
    width, (shared, chosen) = 768, map(len, prompted_blocks(12))
    assert 10 * chosen * 20 * width == 460_800
    assert shared * 5 * width == 7_680
    assert prompted_blocks(3) == ([0], [1])
    assert prompted_blocks(1) == ([0], [0])


def test_mvp_masks_logits_and_counts_its_choices(make_learner, batches) -> None:
    learner = eval_mode(make_learner("mvp"), batches[0])
    model = learner.model
    seen = model.see(batches[0])
    logits = model(batches[0])
    raw = model.classifier.head(seen.features)
    start = 2 / (1 + math.e)
    torch.testing.assert_close(logits[:, :2], raw[:, :2] * start)
    assert torch.isinf(logits[:, 2:]).all()
    learner.loss(batches[0], None)
    assert model.pool.counts.sum() == 0  # evaluation mode
    model.train()
    learner.loss(batches[0], None)
    learner.loss(batches[0], None)
    assert model.pool.counts.sum() == 12
    one = batches[0].rows(0, 1)
    assert torch.isfinite(learner.loss(one, None).value)


def test_mvp_without_its_parts_is_cross_entropy_and_a_key_loss(make_learner, batches) -> None:
    off: dict[str, Any] = dict.fromkeys(
        ("use_mask", "use_contrastive", "use_gsf", "use_afs"), False
    )
    learner = eval_mode(make_learner("mvp", **off), batches[0])
    loss, model = learner.loss(batches[0], None), learner.model
    seen = model.see(batches[0])
    cosines = torch.cosine_similarity(seen.queries, model.pool.keys[seen.chosen])
    plain = cross_entropy(model(batches[0]), batches[0].labels)
    torch.testing.assert_close(loss.value, plain + (1 - cosines).mean())


def test_mvp_r_keeps_raw_labels(data, make_learner, batches) -> None:
    learner = eval_mode(make_learner("mvp_r", memory_size=12), *batches)
    for batch in reversed(batches):
        learner.observe(batch)
    labels = data.manifest.labels[learner.memory.indices.numpy()]
    assert learner.memory.labels.tolist() == labels.tolist()


def test_keys_of_l2p_move(make_learner, batches) -> None:
    learner = eval_mode(make_learner("l2p"), batches[0])
    before = learner.model.pool.keys.detach().clone()
    step(learner, batches[0])
    assert not torch.equal(before, learner.model.pool.keys)
    with pytest.raises(UserError, match="selection=11 of a pool of 10"):
        make_learner("l2p", selection=11)
