"""Merging at the borders of experiences: NumPy arithmetic, streams with and without experiences."""

from __future__ import annotations

import io
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from continual.learner import LEARNERS
from continual.merged import MergeConfig, merge_ends
from continual.strategy import Position
from tests.continual.random_states import random_states, restore
from tests.continual.toy_stream import info

ALL_MERGE = {"power": 1.0}


def checkpoints(count: int = 3) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Of a layer, a head of 4 classes shown in turn (2, then 1, then none) and an adapter."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "layer": (3, 5),
        "head.weight": (4, 3),
        "head.bias": (4,),
        "x.lora_A.default.weight": (2, 5),
        "x.lora_B.default.weight": (4, 2),
    }
    made = [
        {n: torch.randn(s, generator=generator) for n, s in shapes.items()} for _ in range(count)
    ]
    shown = [[1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    start = {n: torch.randn(s, generator=generator) for n, s in shapes.items()}
    for weights, exposed in zip([start, *made], [[0] * 4, *shown], strict=False):
        weights["exposed"] = torch.tensor(exposed, dtype=torch.bool)
    return made, start


def guided(ends: list[np.ndarray], start: np.ndarray, power: float) -> np.ndarray:
    moved = np.array([np.sqrt(((e - start) ** 2).sum()) for e in ends]) ** power
    return np.sum([m / moved.sum() * e for m, e in zip(moved, ends, strict=True)], axis=0)


def wide(weights: dict[str, torch.Tensor], name: str) -> np.ndarray:
    return weights[name].double().numpy()


@pytest.mark.parametrize("power", [1.0, 0.0, -1.0])
def test_layers_and_rows_of_classes_are_those_of_numpy(power) -> None:
    ends, start = checkpoints()
    merged = merge_ends(ends, start, MergeConfig(power=power))
    wanted = guided([wide(e, "layer") for e in ends], wide(start, "layer"), power)
    np.testing.assert_allclose(merged["layer"], wanted, rtol=1e-5, atol=1e-6)
    for name in ("head.weight", "head.bias"):
        first, now = wide(start, name), merged[name].numpy()
        for rows, since in (([0, 2], 0), ([1], 1)):
            parts = [wide(e, name)[rows] for e in ends[since:]]
            wanted = guided(parts, first[rows], power)
            np.testing.assert_allclose(now[rows], wanted, rtol=1e-5, atol=1e-6)
        assert np.array_equal(now[3], ends[-1][name][3])  # not shown yet
    assert torch.equal(merged["exposed"], ends[-1]["exposed"])


@pytest.mark.parametrize("power", [1.0, 0.0])
def test_an_adapter_is_the_nearest_one_to_the_mean_of_products(power) -> None:
    ends, start = checkpoints()
    merged = merge_ends(ends, start, MergeConfig(power=power))
    a, b = "x.lora_A.default.weight", "x.lora_B.default.weight"
    products = [wide(e, b) @ wide(e, a) for e in ends]
    mean = guided(products, np.zeros((4, 5)), power)
    found, left = wide(merged, b) @ wide(merged, a), np.linalg.svd(mean)[1][2:]
    assert np.linalg.matrix_rank(found, tol=1e-5) == 2
    # No matrix of rank 2 is nearer than the singular values that are left out (Eckart and Young).
    assert np.linalg.norm(found - mean) == pytest.approx(np.sqrt((left**2).sum()), rel=1e-5)
    assert left[0] > 1e-3


def test_the_first_end_stays_and_equal_products_are_kept() -> None:
    ends, start = checkpoints()
    alone = merge_ends(ends[:1], start, MergeConfig())
    assert all(torch.equal(alone[name], tensor) for name, tensor in ends[0].items())
    same = merge_ends([ends[0]] * 3, start, MergeConfig())
    a, b = "x.lora_A.default.weight", "x.lora_B.default.weight"
    torch.testing.assert_close(same[b] @ same[a], ends[0][b] @ ends[0][a], atol=1e-5, rtol=1e-5)
    assert torch.equal(same["layer"], ends[0]["layer"])


def test_a_learner_becomes_the_merge_of_its_ends(data, stream, make_learner) -> None:
    learner = make_learner("finetune", merge=ALL_MERGE)
    start = learner.model.encoder.state_dict()
    start = {name: t.double().numpy().copy() for name, t in start.items()}
    ends = []
    for index in range(2):
        learner.begin_experience(info(stream, index, data))
        with torch.no_grad():
            for p in learner.model.parameters():
                p += 0.1 * (index + 1) * torch.randn(p.shape)
        ends.append({n: t.double().numpy() for n, t in learner.model.encoder.state_dict().items()})
        ends[-1] = {name: t.copy() for name, t in ends[-1].items()}
        learner.end_experience(info(stream, index, data))
        now = learner.model.encoder.state_dict()
        for name, value in start.items():
            if now[name].is_floating_point() and value.size:
                wanted = guided([e[name] for e in ends], value, 1.0)
                np.testing.assert_allclose(now[name], wanted, rtol=1e-4, atol=1e-5)


def finish(learner, made, saved: Any, after_step: Any = None) -> torch.Tensor:
    strategy, benchmark = made(learner, after_step=after_step)
    if saved:
        file = io.BytesIO()
        torch.save(saved["learner"], file)
        file.seek(0)
        learner.load_state_dict(torch.load(file, weights_only=True))
        strategy.resume(Position(**saved["position"]), saved["optimizer"])
        restore(saved["random"])
    for experience in benchmark.train_stream[strategy.position.experience :]:
        strategy.train(experience)
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])


@pytest.mark.parametrize("stop", [1, 6, 8, 12])
def test_resumed_equals_uninterrupted(stop, make_learner, make_strategy) -> None:
    """In an online stream: see ``test_online.py``."""
    made, kept = make_strategy, {}

    def snapshot(strategy) -> None:
        if strategy.position.total_steps == stop:
            kept.update(
                learner=deepcopy(strategy.learner.state_dict()),
                optimizer=deepcopy(strategy.optimizer.state_dict()),
                position=asdict(strategy.position),
                random=random_states(),
            )

    torch.manual_seed(5)
    learner = make_learner("finetune", merge=ALL_MERGE)
    whole = finish(learner, made, None, snapshot)
    assert len(learner.ends) == 2
    assert kept
    torch.manual_seed(5)
    plain = finish(make_learner("finetune"), made, None)
    assert not torch.equal(whole, plain)
    torch.manual_seed(99)
    assert torch.equal(whole, finish(make_learner("finetune", merge=ALL_MERGE), made, kept))


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="have no mean"):
        LEARNERS.parse({"name": "finetune", "merge": {}, "head": {"whiten": True}})
    with pytest.raises(ValueError, match="adapter=merged adds adapters up"):
        LEARNERS.parse({"name": "more", "merge": {}, "adapter": "merged"})
    assert "merge" not in LEARNERS.parse("finetune").dump()
