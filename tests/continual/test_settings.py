"""Settings of online learners reach what they promise to change: another value, another model.

Here are those that no other test sets.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from continual.online import OnlineStrategy
from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark

EPS = {"whiten": True, "eps": 0.3}
# Learner with the settings that bring a setting to bear, and a value that is not its default.
CASES: list[tuple[dict[str, Any], str, Any]] = [
    ({"name": "clib", "memory_size": 6}, "importance_period", 4),
    ({"name": "derpp", "memory_size": 6}, "beta", 3.0),
    ({"name": "dual_prompt"}, "pool_size", 4),
    ({"name": "dual_prompt"}, "shared_length", 2),
    ({"name": "dual_prompt"}, "key_weight", 0.0),
    ({"name": "l2p"}, "pool_size", 6),
    ({"name": "l2p"}, "key_weight", 0.0),
    ({"name": "lwf", "teacher": 5}, "temperature", 0.5),
    ({"name": "lwf", "teacher": "ema"}, "ema_decay", 0.1),
    ({"name": "mvp"}, "pool_size", 4),
    ({"name": "mvp"}, "shared_length", 2),
    ({"name": "mvp"}, "gamma", 0.5),
    ({"name": "mvp"}, "contrastive_weight", 0.0),
    ({"name": "mvp"}, "gsf_mode", "released_scalar"),
    ({"name": "mvp"}, "cvpt_mode", "released_broadcast"),
    ({"name": "mvp"}, "init_std", 0.1),
    ({"name": "mvp_r", "memory_size": 6}, "gamma", 0.5),
    ({"name": "l2p", "head": {"whiten": False}}, "head", {"whiten": True}),
    ({"name": "er_ace", "memory_size": 6, "head": {"whiten": True}}, "head", EPS),
]


@pytest.fixture(scope="session")
def trained(data):
    """The weights that settings lead to on a short stream; each is trained once."""
    config: Any = SCENARIOS.parse({"name": "si_blurry", "num_tasks": 2, "eval_period": 5})
    stream, known = config.build(data.manifest, 3), {}

    def train(make_learner, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
        key = repr(sorted(settings.items()))
        if key not in known:
            learner = make_learner(**settings)
            optimizer = torch.optim.Adam(
                [p for p in learner.model.parameters() if p.requires_grad], lr=5e-3
            )
            gather = data.signals.gather
            strategy = OnlineStrategy(
                learner=learner,
                stream=stream,
                gather=gather,
                optimizer=optimizer,
                seed=1,
                train_mb_size=5,
                iterations=2,
            )
            torch.manual_seed(0)
            for task in as_benchmark(stream, gather).train_stream:
                strategy.train(task, eval_streams=[])
            known[key] = {k: v.clone() for k, v in learner.weights().items()}
        return known[key]

    return train


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("settings", "field", "value"), CASES, ids=[f"{c[0]['name']}-{c[1]}" for c in CASES]
)
def test_another_value_is_another_model(trained, make_learner, settings, field, value) -> None:
    plain = trained(make_learner, settings)
    assert not same(plain, trained(make_learner, {**settings, field: value}))


@pytest.mark.parametrize("settings", [{"name": "mvp"}, {"name": "derpp", "memory_size": 6}])
def test_the_same_settings_are_the_same_model(trained, make_learner, settings) -> None:
    default = {"mvp": ("gamma", 2.0), "derpp": ("alpha", 0.2)}[settings["name"]]
    again = trained(make_learner, {**settings, default[0]: default[1]})
    assert same(trained(make_learner, settings), again)
