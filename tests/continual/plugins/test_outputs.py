"""What plugins and metrics read: numbers, and the learner's own answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, LwFPlugin, MASPlugin
from torch.nn.functional import cross_entropy, softmax

from continual.classifier import Classifier
from continual.evaluation import predict
from continual.learner import LEARNERS, LearnerContext
from continual.plugins.outputs import FLOOR, PluginLoss, finite
from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.strategy import LearnerStrategy
from multimodal.encoders.compact import CompactEncoder
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache
from tests.toy import toy_chords

LEARNERS_THAT_TRAIN = (
    "er_ace",
    "derpp",
    "lwf",
    "ewcpp",
    "linear_probe",
    "l2p",
    "dual_prompt",
    "mvp",
)


class Silent:
    """A logger."""

    def log_metrics(self, values: Any) -> None:
        pass


def evaluator() -> EvaluationPlugin:
    metrics = (accuracy_metrics(stream=True), loss_metrics(stream=True))
    return EvaluationPlugin(*metrics, loggers=[Silent()])


def test_a_softmax_cannot_tell_the_floor_from_minus_infinity() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * 20
    labels, hidden = torch.tensor([0, 1, 2, 0, 1, 2]), [3, 4]
    found = []
    for replaced in (lambda x: x, finite):
        raw = logits.clone().requires_grad_()
        masked = raw.clone()
        masked[:, hidden] = float("-inf")
        outputs = replaced(masked)
        loss = cross_entropy(outputs, labels)
        loss.backward()
        found.append(
            (loss.detach(), raw.grad, *(softmax(outputs / t, 1) for t in (1.0, 2.0, 50.0)))
        )
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_nothing_is_learned_from_the_floor_itself() -> None:
    """The gradient of MAS, of the squared norm, is that of the exposed classes alone."""
    raw = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masked = torch.cat([raw[:, :3], torch.full((4, 2), float("-inf"))], dim=1)
    outputs = finite(masked)
    torch.norm(outputs, p="fro", dim=1).pow(2).mean().backward()
    expected = torch.cat([2 * raw.detach()[:, :3] / 4, torch.zeros(4, 2)], dim=1)
    assert raw.grad is not None
    assert torch.allclose(raw.grad, expected, rtol=1e-5)
    assert (outputs[:, 3:] == FLOOR).all()


@pytest.mark.parametrize("name", LEARNERS_THAT_TRAIN)
def test_plugins_work_on_every_kind_of_learner(name: str, make_learner, make_strategy) -> None:
    learner = make_learner(name)
    plugins = [MASPlugin(lambda_reg=1.0), EWCPlugin(ewc_lambda=1.0), LwFPlugin(alpha=1.0)]
    strategy, benchmark = make_strategy(
        learner, plugins=plugins, evaluator=evaluator(), train_epochs=1
    )
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    assert all(p.isfinite().all() for p in learner.model.parameters())
    importance = plugins[0].importance
    assert importance is not None
    assert any(found.data.any() for found in importance.values())


@pytest.mark.parametrize("name", ["slda", "majority", "replay"])
def test_metrics_score_what_the_learner_answers(
    name: str, data, stream, make_learner, make_strategy
):
    """Also of learners whose head is never trained."""
    strategy, benchmark = make_strategy(make_learner(name), evaluator=evaluator())
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    found = strategy.eval(benchmark.test_stream)
    rows = np.concatenate([e.test for e in stream.experiences])
    own = predict(strategy.learner, strategy.batches(rows)).labels.numpy()
    expected = np.mean(own == data.manifest.labels[rows])
    assert found["Top1_Acc_Stream/eval_phase/test_stream"] == pytest.approx(float(expected))
    assert np.isfinite(found["Loss_Stream/eval_phase/test_stream"])


def test_a_future_experience_has_a_loss_that_is_a_number(make_learner, make_strategy) -> None:
    strategy, benchmark = make_strategy(make_learner("finetune"), evaluator=evaluator())
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    found = strategy.eval(benchmark.test_stream)
    assert np.isfinite(found["Loss_Stream/eval_phase/test_stream"])


def test_penalties_on_multi_label_data() -> None:
    """The loss that plugins take of them is a binary one, and it holds the weights back."""
    manifest, adapter = toy_chords(), SpeechConfig().build()
    signals = SignalCache(manifest, adapter, progress=False)
    config: Any = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 2})
    stream = config.build(manifest, 0)
    moved = []
    for plugins in ([], [EWCPlugin(ewc_lambda=100.0), MASPlugin(lambda_reg=100.0)]):
        torch.manual_seed(0)
        encoder = CompactEncoder(adapter.channels, width=16, depth=1, heads=2, dropout=0.0)
        model = Classifier(adapter.front_end(), encoder, 4, multi_label=True)
        learner: Any = LEARNERS.parse("finetune")
        strategy = LearnerStrategy(
            learner=learner.build(LearnerContext(model, seed=1)),
            stream=stream,
            gather=signals.gather,
            optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
            seed=1,
            train_mb_size=6,
            plugins=plugins,
        )
        first, second = as_benchmark(stream, signals.gather).train_stream
        strategy.train(first, eval_streams=[])
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        strategy.train(second, eval_streams=[])
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        assert after.isfinite().all()
        moved.append((after - before).norm())
    assert 0 < moved[1] < moved[0]


def test_the_loss_of_targets_leaves_unknown_and_hidden_cells_out() -> None:
    outputs = torch.tensor([[0.5, FLOOR, -1.0], [2.0, FLOOR, 0.0]])
    targets = torch.tensor([[1.0, 1.0, float("nan")], [0.0, 0.0, 1.0]])
    sigmoid = 1 / (1 + np.exp(-np.array([0.5, 2.0, 0.0])))
    expected = -(np.log(sigmoid[0]) + np.log(1 - sigmoid[1]) + np.log(sigmoid[2])) / 3
    assert PluginLoss()(outputs, targets).item() == pytest.approx(expected, rel=1e-6)
