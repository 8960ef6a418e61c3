"""All plugins of Avalanche on both strategies: each works, or is refused by name beforehand."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import avalanche.training.plugins as theirs
import pytest
import torch
from avalanche.core import BaseSGDPlugin, SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.training.plugins import EvaluationPlugin

from continual.online import OnlineStrategy
from continual.plugins.known import REFUSED, WATCHERS, WORKS
from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.strategy import LearnerStrategy
from multimodal.errors import UserError

# Of the strategy itself (Clock), or refused by Avalanche (CheckpointPlugin).
NOT_FOR_USERS = {"Clock", "CheckpointPlugin"}


def all_plugins() -> dict[str, Any]:
    """The classes below ``avalanche.training.plugins`` by name."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(theirs.__path__, f"{theirs.__name__}."):
        for name, kind in vars(importlib.import_module(module.name)).items():
            own = getattr(kind, "__module__", "").startswith(theirs.__name__)
            if isinstance(kind, type) and issubclass(kind, BaseSGDPlugin) and own:
                found[name] = kind
    found["EvaluationPlugin"] = EvaluationPlugin
    found["SupervisedPlugin"] = SupervisedPlugin
    return found


ALL = all_plugins()


class Silent:
    """A logger."""

    def log_metrics(self, values: Any) -> None:
        pass


def make(name: str, learner: Any, optimizer: Any) -> Any:
    """A plugin with settings that make it act on a stream of two short experiences."""
    arguments: dict[str, dict[str, Any]] = {
        "AGEMPlugin": {"patterns_per_experience": 6, "sample_size": 6},
        "CWRStarPlugin": {"model": learner.model},
        "EWCPlugin": {"ewc_lambda": 100.0},
        "EarlyStoppingPlugin": {"patience": 1, "val_stream_name": "test_stream", "margin": 2.0},
        "GEMPlugin": {"patterns_per_experience": 6, "memory_strength": 0.5},
        "LFLPlugin": {"lambda_e": 1.0},
        "LRSchedulerPlugin": {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)},
        "LwFPlugin": {"alpha": 5.0},
        "MASPlugin": {"lambda_reg": 100.0},
        "MIRPlugin": {"batch_size_mem": 4},
        "RARPlugin": {"batch_size_mem": 4},
        "RWalkPlugin": {"ewc_lambda": 100.0, "delta_t": 2},
        "SynapticIntelligencePlugin": {"si_lambda": 1.0},
    }
    if name == "EvaluationPlugin":
        metrics = (accuracy_metrics(epoch=True, stream=True), loss_metrics(stream=True))
        return EvaluationPlugin(*metrics, loggers=[Silent()])
    if name == "LRSchedulerPlugin":
        arguments[name]["step_granularity"] = "iteration"
    return ALL[name](**arguments.get(name, {}))


def tensors_of(value: Any, seen: set[int] | None = None) -> Iterator[torch.Tensor]:
    """All tensors that a plugin holds, however deep."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from tensors_of(inner, seen)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from tensors_of(inner, seen)
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict().values()
    elif type(value).__module__.startswith("avalanche.training"):
        yield from tensors_of(vars(value), seen)


@pytest.fixture(scope="session")
def streams(data) -> dict[str, Any]:
    online: Any = SCENARIOS.parse({"name": "si_blurry", "num_tasks": 2, "stochastic": False})
    offline: Any = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 2})
    return {"online": online.build(data.manifest, 0), "offline": offline.build(data.manifest, 0)}


@pytest.fixture
def train(data, streams, make_learner):
    """Name of a plugin, or plugins -> trained strategy, on a stream of two experiences."""

    def run(
        kind: str, plugins: Any = (), *, name: str = "finetune", finish: bool = True, **fields: Any
    ) -> Any:
        learner = make_learner(name, **fields)
        trained = [p for p in learner.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=3e-3)
        if isinstance(plugins, str):
            plugins = [make(plugins, learner, optimizer)]
        early = kind == "offline" and any("Early" in type(p).__name__ for p in plugins)
        parts: dict[str, Any] = {
            "learner": learner,
            "stream": streams[kind],
            "gather": data.signals.gather,
            "optimizer": optimizer,
            "seed": 1,
            "train_mb_size": 6,
            "plugins": plugins,
        }
        if any(isinstance(plugin, EvaluationPlugin) for plugin in plugins):
            parts["evaluator"], parts["plugins"] = plugins[0], []
        if early:
            parts["eval_every"] = 1
            parts["evaluator"] = EvaluationPlugin(accuracy_metrics(stream=True), loggers=[Silent()])
        if kind == "online":
            strategy: Any = OnlineStrategy(**parts)
        else:
            strategy = LearnerStrategy(**parts, train_epochs=2)
        if finish:
            benchmark = as_benchmark(streams[kind], data.signals.gather, train_rows=strategy.rows)
            torch.manual_seed(5)
            for experience in benchmark.train_stream:
                watched = [benchmark.test_stream] if early else []
                strategy.train(experience, eval_streams=watched)
            strategy.metrics = strategy.eval(benchmark.test_stream) if plugins else {}
        return strategy

    return run


def weights(strategy: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in strategy.learner.model.parameters()])


def test_every_plugin_of_avalanche_is_known() -> None:
    assert set(WORKS) | set(REFUSED) == set(ALL) - NOT_FOR_USERS
    assert not set(WORKS) & set(REFUSED)
    assert len(ALL) >= 30


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    return {}


@pytest.mark.parametrize("kind", ["offline", "online"])
@pytest.mark.parametrize("plugin", sorted(WORKS))
def test_it_works(plugin: str, kind: str, train, plain: dict[str, torch.Tensor]) -> None:
    if (plugin, kind) == ("EarlyStoppingPlugin", "online"):
        with pytest.raises(UserError, match="Avalanche's EarlyStoppingPlugin cannot work here"):
            train(kind, plugin)
        return
    strategy = train(kind, plugin)
    if kind not in plain:
        plain[kind] = weights(train(kind))
    got = weights(strategy)
    assert got.isfinite().all()
    assert strategy.position.experience == 2
    held = list(tensors_of([p for p in strategy.plugins if type(p).__name__ == plugin]))
    assert all(tensor.isfinite().all() for tensor in held)
    watches = plugin in {*WATCHERS, "SupervisedPlugin"}
    assert torch.equal(got, plain[kind]) == watches, "it had no effect, or one that it may not have"
    if plugin == "EvaluationPlugin":
        assert all(torch.tensor(v).isfinite() for v in strategy.metrics.values())


@pytest.mark.parametrize("kind", ["offline", "online"])
@pytest.mark.parametrize("plugin", sorted(REFUSED))
def test_it_is_refused_before_training(plugin: str, kind: str, train) -> None:
    with pytest.raises(UserError, match=f"Avalanche's {plugin} cannot work here: .*") as refused:
        train(kind, plugin, finish=False)
    assert "\n" not in str(refused.value)
    strategy = train(kind, "SupervisedPlugin", finish=False)
    strategy.plugins.append(make(plugin, strategy.learner, strategy.optimizer))
    with pytest.raises(UserError, match=f"Avalanche's {plugin} cannot work here"):
        strategy.train([], eval_streams=[])


def test_plugins_are_given_when_a_strategy_is_made(train) -> None:
    """Later, its clock would stand still and penalties would wait for ever."""
    strategy = train("offline", finish=False)
    strategy.plugins.append(make("EWCPlugin", strategy.learner, strategy.optimizer))
    with pytest.raises(UserError, match="give a strategy its Avalanche plugins when it is made"):
        strategy.train([], eval_streams=[])


def test_penalties_hold_the_weights_back(train) -> None:
    """MAS with a large weight moves what it guards less than no plugin does."""
    moved = []
    for plugins in ((), "MASPlugin"):
        strategy = train("offline", plugins)
        start = train("offline", finish=False)
        moved.append((weights(strategy) - weights(start)).norm())
    assert moved[1] < moved[0]


class Meddler(SupervisedPlugin):
    """Does what a plugin may not do."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self.what == "data":
            strategy.dataloader = list(strategy.dataloader)
        if self.what == "model":
            strategy.model = torch.nn.Linear(2, 2)
        if self.what == "loss":
            strategy._criterion = torch.nn.MSELoss()

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self.what == "batch":
            strategy.mbatch = [strategy.mbatch[0].rows(0, 1), *strategy.mbatch[1:]]

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self.what == "no number":
            strategy.loss = strategy.loss + float("nan")

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self.what == "weights":
            with torch.no_grad():
                next(strategy.model.parameters()).fill_(float("inf"))


@pytest.mark.parametrize("kind", ["offline", "online"])
@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("data", "replaced the training data"),
        ("model", r"plugin \(Meddler\) replaced the model"),
        ("loss", r"plugin \(Meddler\) replaced the loss"),
        ("batch", r"plugin \(Meddler\) replaced the batch"),
        (
            "no number",
            "the loss is no number any more at step 0, with the Avalanche plugin Meddler",
        ),
        ("weights", "a weight is no number any more at step .* Meddler"),
    ],
)
def test_what_a_plugin_of_ones_own_may_not_do(what: str, told: str, kind: str, train) -> None:
    with pytest.raises(UserError, match=told):
        train(kind, [Meddler(what)])


def test_a_learner_that_takes_no_step_is_not_trained_otherwise(train) -> None:
    with pytest.raises(UserError, match=r"EWCPlugin.*: MajorityLearner takes no step of training"):
        train("offline", "EWCPlugin", name="majority")
    strategy = train("offline", "EvaluationPlugin", name="majority")
    assert strategy.metrics["Top1_Acc_Stream/eval_phase/test_stream"] == 0.25
