"""COCONUT's contrast: an oracle sample by sample, closed forms, settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.coconut import CoconutConfig, multimodal_contrast, nspt
from tests.multimodal.objectives.coconut_oracle import (
    MM,
    NSPT,
    draw,
    multimodal_oracle,
    name_of,
    nspt_oracle,
)

SEVERAL = pytest.mark.parametrize("several", [False, True], ids=["classes", "several_labels"])


# ---- the oracle -----------------------------------------------------------------------------


@SEVERAL
@pytest.mark.parametrize("options", NSPT, ids=name_of)
def test_nspt_is_the_oracles(options: Any, several: bool) -> None:
    anchors = 0
    for seed in range(8):
        given = draw(seed, several=several)
        for temperature in (0.1, 1.5):
            each = nspt(*given, temperature=temperature, reduction="none", **options)
            expected = nspt_oracle(*given, temperature=temperature, **options)
            wanted = [expected.get(k, 0.0) for k in range(7)]
            assert each.tolist() == pytest.approx(wanted, rel=1e-10, abs=1e-10)
            mean = sum(wanted) / len(expected) if expected else 0.0
            assert nspt(*given, temperature=temperature, **options).item() == pytest.approx(mean)
            anchors += len(expected)
    assert anchors > 10


@SEVERAL
@pytest.mark.parametrize("options", MM, ids=name_of)
def test_multimodal_is_the_oracles(options: Any, several: bool) -> None:
    for seed in range(12):
        given = draw(seed, several=several)
        loss = multimodal_contrast(*given, temperature=0.3, **options)
        one, other, classes = multimodal_oracle(*given, temperature=0.3, **options)
        assert loss.value.item() == pytest.approx(one + other, rel=1e-10, abs=1e-12)
        assert loss.terms["signal_to_text"].item() == pytest.approx(one, rel=1e-10, abs=1e-12)
        assert loss.terms["text_to_signal"].item() == pytest.approx(other, rel=1e-10, abs=1e-12)
        assert loss.terms["classes"] == classes


# ---- closed forms ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "logarithm_of"),
    [("literal", 6), ("ntpt", 6), ("exclude_self", 5), ("bounded", 6), ("new_only", 4)],
)
def test_equal_embeddings_cost_the_logarithm_of_their_number(variant, logarithm_of) -> None:
    x, labels = torch.ones(6, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 2])
    rehearsal = torch.arange(6) < 2
    value = nspt(x, x, labels, rehearsal, variant=variant)
    assert value.item() == pytest.approx(math.log(logarithm_of), abs=1e-12)
    loss = multimodal_contrast(x, x, labels, rehearsal)
    assert loss.value.item() == pytest.approx(2 * math.log(4), abs=1e-12)


def test_a_sample_alone_costs_its_distance_to_its_earlier_self() -> None:
    s, t = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    labels, rehearsal = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool)
    assert nspt(s, t, labels, rehearsal).item() == pytest.approx((1 - 0.8) / 0.1, rel=1e-5)


def test_positives_of_several_labels_weigh_what_they_share() -> None:
    s = torch.eye(4, dtype=torch.float64)
    t = torch.tensor([[0.6, 0.8, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [1.0, 0, 0, 0]]).double()
    nan = math.nan
    targets = torch.tensor([[1.0, 1, 0, nan], [nan, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, nan]])
    rehearsal = torch.tensor([True, True, True, False])
    whole = math.log(math.exp(1) + 3)
    weights: Any = {"any": 1.0, "jaccard": 0.5}
    for overlap, weight in weights.items():
        each = nspt(
            s, t, targets, rehearsal, temperature=1.0, overlap=overlap, reduction="none"
        ).tolist()
        first = ((whole - 0.6) + weight * (whole - 0.0)) / (1 + weight)
        second = (weight * (whole - 0.8) + (whole - 1.0)) / (1 + weight)
        assert each == pytest.approx([first, second, whole - 1.0, 0.0], abs=1e-7)
    each = nspt(s, t, targets, rehearsal, temperature=1.0, variant="bounded", reduction="none")
    entries = math.exp(0.6) + math.exp(0.0) + 2  # its two positives, samples 2 and 3
    assert each[0].item() == pytest.approx(math.log(entries) - 0.3, abs=1e-7)


@pytest.mark.parametrize("counts", [(3, 1, 2), (1, 1, 1), (5, 4, 1)])
def test_one_text_a_class_is_the_cross_entropy_of_a_classifier(counts) -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    x = torch.eye(3, dtype=torch.float64)[labels]
    new = torch.zeros(len(labels), dtype=torch.bool)
    loss = multimodal_contrast(x, x, labels, new, one_text_a_class=True)
    rest = math.exp(-1 / 0.1)
    assert loss.terms["signal_to_text"].item() == pytest.approx(math.log1p(2 * rest), rel=1e-9)
    back = [math.log(n + (sum(counts) - n) * rest) for n in counts]
    assert loss.terms["text_to_signal"].item() == pytest.approx(sum(back) / 3, abs=1e-9)
    many = multimodal_contrast(x, x, labels, new)
    copies = [math.log(n + (sum(counts) - n) * rest) for n in counts for _ in range(n)]
    expected = sum(copies) / len(copies)
    assert many.terms["signal_to_text"].item() == pytest.approx(expected, abs=1e-9)


def test_one_text_alone_tells_nothing_apart() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    one, new = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)
    loss = multimodal_contrast(x, x.detach(), one, new, one_text_a_class=True)
    assert (loss.value, loss.terms["classes"]) == (0, 1)
    loss.value.backward()
    assert x.grad is not None
    assert not x.grad.any()
    assert multimodal_contrast(x, x.detach(), one, new).value > 0


# ---- settings -------------------------------------------------------------------------------


def test_settings_say_what_is_computed() -> None:
    given = draw(6, several=True)
    config = CoconutConfig(
        temperature=0.2,
        nspt_variant="bounded",
        anchor_scope="all",
        overlap="jaccard",
        mm_scope="all",
    )
    expected = nspt(*given, temperature=0.2, variant="bounded", anchors="all", overlap="jaccard")
    assert config.nspt_loss(*given) == expected
    for heat, used in ((None, 0.2), (0.7, 0.7)):
        other = config.model_copy(update={"mm_temperature": heat})
        options: Any = {"scope": "all", "overlap": "jaccard", "one_text_a_class": True}
        loss = multimodal_contrast(*given, temperature=used, **options)
        assert other.mm_loss(*given, one_text_a_class=True).value == loss.value
    paired = CoconutConfig(mm_positive="paired").mm_loss(*given)
    assert paired.value == multimodal_contrast(*given, positives="paired").value


def test_multimodal_is_of_every_task_or_the_first() -> None:
    assert [CoconutConfig().mm_in(task) for task in range(3)] == [True] * 3
    first = CoconutConfig(mm_tasks="first")
    assert [first.mm_in(task) for task in range(3)] == [True, False, False]
    assert not CoconutConfig(mm=0.0).mm_in(0)


def test_it_is_no_objective_of_its_own() -> None:
    assert "coconut" not in OBJECTIVES.names()
    assert CoconutConfig.parse(CoconutConfig().dump()) == CoconutConfig()


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {"mm_temperature": -1.0},
        {"nspt": -0.1},
        {"mm": math.inf},
        {"nspt_variant": "nspt"},
        {"anchor_scope": "new"},
        {"mm_tasks": "last"},
        {"tau": 0.1},
    ],
)
def test_settings_that_do_not_fit_are_refused(fields) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        CoconutConfig.parse(fields)


def test_options_that_do_not_fit_are_named() -> None:
    given = draw(0, several=False)
    wrong: Any = "some"
    with pytest.raises(ValueError, match="variant: 'some'; choose one of literal, ntpt"):
        nspt(*given, variant=wrong)
    with pytest.raises(ValueError, match="scope: 'some'; choose one of new, all"):
        multimodal_contrast(*given, scope=wrong)
    with pytest.raises(ValueError, match="temperature: 0"):
        nspt(*given, temperature=0)
    with pytest.raises(ValueError, match="choose same_class"):
        multimodal_contrast(*given, positives="paired", one_text_a_class=True)
