"""Each online method against an identity of its paper; prompts have a file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax, softmax

from continual.classifier_learner import main_labels
from continual.learner import ExperienceInfo
from continual.learners.clib import ImportanceMemory
from continual.learners.rm import choose
from multimodal.batch import Batch
from multimodal.errors import UserError
from tests.continual.online_steps import class_pairs, eval_mode, step


@pytest.fixture
def batches(data) -> tuple[Batch, Batch]:
    return class_pairs(data)


def ended(learner) -> None:
    empty = np.empty(0, dtype=np.int64)
    info = ExperienceInfo(0, 1, (), (), empty, empty, None, lambda: iter(()))
    learner.end_experience(info)


def test_batch_class_mask_is_a_softmax_over_the_classes_of_the_batch(make_learner, batches) -> None:
    learner = eval_mode(make_learner("er", batch_class_mask=True), *batches)
    loss = learner.loss(batches[0], None)
    logits = learner.model(batches[0])
    torch.testing.assert_close(loss.value, cross_entropy(logits[:, :2], batches[0].labels))
    assert float(loss.terms["classes_in_batch"]) == 2
    loss.value.backward()
    assert torch.equal(learner.classifier.head.weight.grad[2:], torch.zeros(2, 16))
    one = batches[0].rows(0, 1)
    assert learner.loss(one, None).value.item() == 0.0


def test_er_ace_moves_no_absent_class(make_learner, batches) -> None:
    learner = eval_mode(make_learner("er_ace"), *batches)
    learner.loss(batches[0], None).value.backward()
    assert torch.equal(learner.classifier.head.weight.grad[2:], torch.zeros(2, 16))


def test_derpp_keeps_the_logits_before_the_mask_of_its_slots(make_learner, batches) -> None:
    learner = eval_mode(make_learner("derpp", memory_size=4), batches[0])
    first = learner.classifier.raw(batches[0]).detach()
    learner.loss(batches[0], None)
    learner.observe(batches[0])
    place = {row: i for i, row in enumerate(batches[0].indices.tolist())}
    for row, past in zip(learner.memory.indices.tolist(), learner.past, strict=True):
        torch.testing.assert_close(past[:2], first[place[row], :2])
        assert past[2:].isnan().all()  # not exposed when the recording came
    eval_mode(learner, batches[1])
    drawn = learner.draw()
    assert len(drawn) == 8
    rows = [place[row] for row in drawn.tolist()]
    memory = Batch(
        *(getattr(batches[0], n)[rows] for n in ("inputs", "lengths", "labels", "indices"))
    )
    step(learner, batches[1])
    loss, now = learner.loss(batches[1], memory), learner.classifier.raw(memory)
    error = (now[:4, :2] - first[rows[:4], :2]).square().mean()
    plain = cross_entropy(learner.model(batches[1]), batches[1].labels)
    again = cross_entropy(now[4:], memory.labels[4:])
    torch.testing.assert_close(loss.value, plain + 0.2 * error + 0.5 * again)


def test_ewcpp_has_the_penalty_and_the_fisher_of_its_paper(make_learner, batches) -> None:
    learner = eval_mode(make_learner("ewcpp", strength=10.0), *batches)
    head = learner.classifier.head
    step(learner, batches[0])
    first = learner.fisher["head.weight"].clone()
    ended(learner)
    assert torch.equal(learner.kept["head.weight"], first)
    anchor = head.weight.detach().clone()
    step(learner, batches[1])
    names = dict(learner.model.named_parameters())
    gradients = torch.autograd.grad(learner.loss(batches[0], None).value, list(names.values()))
    plain = torch.autograd.grad(
        cross_entropy(learner.model(batches[0]), batches[0].labels), list(names.values())
    )
    penalty = sum(
        float((learner.kept[n] * (p.detach() - learner.anchor[n]).square()).sum())
        for n, p in names.items()
    )
    assert penalty > 0
    assert learner.loss(batches[0], None).terms["penalty"].item() == pytest.approx(penalty)
    at = list(names).index("head.weight")
    torch.testing.assert_close(
        gradients[at] - plain[at], 20 * first * (head.weight - anchor), rtol=1e-4, atol=1e-6
    )
    before = learner.fisher["head.weight"].clone()
    learner.model.zero_grad()
    learner.loss(batches[0], None).value.backward()
    learner.after_backward()
    torch.testing.assert_close(
        learner.fisher["head.weight"], 0.5 * before + 0.5 * plain[at].square(), rtol=1e-3, atol=1e-8
    )


def test_ewcpp_anchors_no_class_that_was_not_exposed(make_learner, batches) -> None:
    learner = eval_mode(make_learner("ewcpp"), batches[0])
    step(learner, batches[0])
    ended(learner)
    assert (learner.kept["head.weight"][:2] > 0).any()
    assert torch.equal(learner.kept["head.weight"][2:], torch.zeros(2, 16))


def test_lwf_distils_the_classes_its_teacher_knew(make_learner, batches) -> None:
    learner = eval_mode(make_learner("lwf", weight=2.0), batches[0])
    past = learner.model(batches[1]).detach()
    ended(learner)
    eval_mode(learner, batches[1])
    step(learner, batches[1])
    step(learner, batches[1])  # the teacher stays as it was
    loss, now = learner.loss(batches[1], None), learner.model(batches[1])
    soft = softmax(past[:, :2] / 2, 1)
    kept = -(soft * log_softmax(now[:, :2] / 2, 1)).sum(1).mean()
    torch.testing.assert_close(loss.value, cross_entropy(now, batches[1].labels) + 2.0 * kept)


@pytest.mark.parametrize("teacher", ["ema", 6])
def test_teachers_without_borders(teacher, make_learner, batches) -> None:
    learner = eval_mode(make_learner("lwf", teacher=teacher), batches[0])
    ended(learner)
    assert not learner.old
    step(learner, batches[0])
    learner.observe(batches[0])
    assert learner.old
    now = learner.classifier.head.weight.detach()
    assert torch.allclose(learner.old["head.weight"], now, atol=1e-3)


def test_rm_takes_sure_and_unsure_recordings_of_every_class() -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)
    uncertainty = torch.tensor([0.7, 0.1, 0.2, 0.3, 0.6, 0.5, 0.4, 0.0, 0.9, 0.1])
    chosen = choose(uncertainty, labels, 8)
    assert len(set(chosen.tolist())) == 8
    assert {8, 9} <= set(chosen.tolist())
    assert chosen[:4].tolist() == [7, 2, 6, 4]  # every second one in the order of uncertainty
    assert sorted(choose(uncertainty, labels, 99).tolist()) == list(range(10))


def test_rm_gives_places_left_over_to_any_candidate() -> None:
    labels, memory = torch.tensor([0] * 60 + [1]), ImportanceMemory(1, seed=0)
    found = [choose(torch.zeros(61), labels, 20, memory.random_order)[11:] for _ in range(300)]
    counts = torch.bincount(torch.cat(found), minlength=61)[:60]
    assert counts[::6].tolist() == [0] * 10  # taken before, as every sixth of its class
    rest = counts[torch.arange(60) % 6 > 0].double()
    assert rest.mean() == 300 * 9 / 50
    assert (rest - rest.mean()).abs().max() < 4.5 * (300 * 0.18 * 0.82) ** 0.5


def test_rm_rate_restarts_after_1_2_4_epochs(make_learner) -> None:
    rate = make_learner("rm").review_rate
    assert [rate(e) for e in (0, 1, 2, 4, 8)] == [0.1, 1.0, 1.0, 1.0, 1.0]
    assert rate(3) == pytest.approx(0.505)
    assert rate(7) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi * 0.75)) / 2)


@pytest.mark.parametrize("name", ["rm", "clib", "er"])
def test_a_memory_without_room_for_every_class_is_refused(name, make_learner) -> None:
    fields = {"policy": "class_balanced"} if name == "er" else {}
    with pytest.raises(UserError, match=f"learner {name}, memory_size=3.*give 4 or more"):
        make_learner(name, memory_size=3, **fields)


def test_main_labels_of_several() -> None:
    targets = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, torch.nan]])
    assert main_labels(targets).tolist() == [1, 3]
