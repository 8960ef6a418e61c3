"""MLflowLogger with a real Avalanche strategy."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.evaluation.metric_results import AlternativeValues
from avalanche.evaluation.metrics import StreamConfusionMatrix, accuracy_metrics, loss_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.tracking import avalanche as avalanche_logger
from benchmarks.tracking import store as tracking
from benchmarks.tracking.avalanche import MLflowLogger
from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.scenarios.avalanche_tensors import TensorTower
from continual.strategy import LearnerStrategy
from multimodal.encoders.compact import CompactEncoder
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache
from tests.toy import toy_manifest


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    tracking.connect(uri).search_experiments()
    return uri


class Labelled(TensorDataset):
    @property
    def targets(self) -> list[int]:
        return self.tensors[1].tolist()


def dataset(classes: list[int], seed: int):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes * 8)
    inputs = torch.randn(len(labels), 4, generator=generator) + labels[:, None]
    return as_classification_dataset(Labelled(inputs, labels))


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    metrics = tracking.connect(uri).get_metric_history(run_id, key)
    return sorted((m.step, m.value) for m in metrics)


class Recorder:
    """An independent record of every scalar that the evaluator publishes."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, values) -> None:
        for v in values:
            if isinstance(v.value, (int, float)):
                self.seen.setdefault(v.name, []).append((v.x_plot, float(v.value)))


def test_naive_strategy_logs_every_scalar_once(store):
    torch.manual_seed(0)
    train = [dataset([0, 1], 0), dataset([2, 3], 1)]
    benchmark: Any = benchmark_from_datasets(train=train, test=[dataset([0, 1, 2, 3], 2)])
    logger, recorder = MLflowLogger(store, experiment="naive"), Recorder()
    evaluator = EvaluationPlugin(
        accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loss_metrics(epoch=True, stream=True),
        StreamConfusionMatrix(num_classes=4, save_image=False),
        loggers=[logger, recorder],  # pyright: ignore[reportArgumentType]
    )
    model = nn.Linear(4, 4)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=2,
        eval_mb_size=16,
        evaluator=evaluator,
    )
    run = tracking.connect(store).get_run
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        assert run(logger.run_id).data.metrics  # sent at the end of the experience
        strategy.eval(benchmark.test_stream)
    logger.close()

    finished = run(logger.run_id)
    assert finished.info.status == "FINISHED"
    assert set(finished.data.metrics) == set(recorder.seen)
    assert any(name.startswith("Top1_Acc_Stream/eval_phase") for name in recorder.seen)
    for name, points in recorder.seen.items():
        assert history(store, logger.run_id, name) == sorted(points), name


@pytest.mark.parametrize("tensors", [True, False])
def test_a_medley_stream_logs_every_scalar_once(store, tensors: bool):
    """Avalanche's Naive on its tensors, and a learner on its rows."""
    manifest, adapter = toy_manifest(train=4, test=2), SpeechConfig().build()
    gather = SignalCache(manifest, adapter, progress=False).gather
    config: Any = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 2})
    stream = config.build(manifest, 0)
    benchmark = as_benchmark(stream, gather, tensors=tensors)
    logger, recorder = MLflowLogger(store, experiment="medley"), Recorder()
    evaluator = EvaluationPlugin(
        accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loss_metrics(epoch=True, stream=True),
        loggers=[logger, recorder],  # pyright: ignore[reportArgumentType]
    )
    encoder = CompactEncoder(adapter.channels, width=8, depth=1, heads=2)
    sizes = {"train_mb_size": 8, "eval_mb_size": 8, "evaluator": evaluator}
    if tensors:
        model: Any = nn.Sequential(TensorTower(adapter, encoder), nn.Linear(8, 4))
    else:
        model = Classifier(adapter.front_end(), encoder, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if tensors:
        strategy: Any = Naive(model=model, optimizer=optimizer, **sizes)
    else:
        learner: Any = LEARNERS.parse("finetune")
        strategy = LearnerStrategy(
            learner=learner.build(LearnerContext(model, seed=0)),
            stream=stream,
            gather=gather,
            optimizer=optimizer,
            seed=0,
            **sizes,
        )
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    logger.close()
    metrics = tracking.connect(store).get_run(logger.run_id).data.metrics
    assert set(metrics) == set(recorder.seen)
    assert "Top1_Acc_Exp/eval_phase/test_stream/Exp001" in metrics
    for name, points in recorder.seen.items():
        assert np.isfinite([value for _, value in points]).all()
        assert history(store, logger.run_id, name) == sorted(points), name


def test_values_of_other_kinds(store):
    logger = MLflowLogger(store, experiment="kinds")
    for i, value in enumerate(
        [1.5, 2, torch.tensor(2.5), AlternativeValues("text", 3.5), AlternativeValues("text")]
    ):
        logger.log_single_metric("v", value, i)
    logger.log_single_metric("v", torch.eye(2), 9)
    logger.log_single_metric("v", "text", 9)
    logger.close()
    assert history(store, logger.run_id, "v") == [(0, 1.5), (1, 2.0), (2, 2.5), (3, 3.5)]


def test_pickling_keeps_uri_and_run_only_and_goes_on_with_the_run(store):
    logger = MLflowLogger(store, experiment="pickled")
    logger.log_single_metric("a", 1.0, 0)
    assert logger.__getstate__() == {"uri": store, "run_id": logger.run_id}
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_single_metric("a", 2.0, 1)
    copy.close()
    assert history(store, logger.run_id, "a") == [(0, 1.0), (1, 2.0)]
    # Who did not make the run does not end it.
    assert tracking.connect(store).get_run(logger.run_id).info.status == "RUNNING"


def test_a_lost_store_warns_once_and_keeps_the_values(store, monkeypatch, capsys):
    logger = MLflowLogger(store, experiment="lost")
    with monkeypatch.context() as context:
        context.setattr(avalanche_logger, "PATIENCE", 0.0)

        def broken(*args, **kwargs):
            raise ConnectionError("gone")

        context.setattr(avalanche_logger, "send_points", broken)
        for step in range(3):
            logger.log_single_metric("a", float(step), step)
            assert not logger.flush()
    assert capsys.readouterr().err.count("gone") == 1
    logger.close()
    assert history(store, logger.run_id, "a") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_after_a_failure_the_store_is_left_alone_for_a_while(store, monkeypatch):
    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        raise ConnectionError("gone")

    logger = MLflowLogger(store, experiment="patience")
    monkeypatch.setattr(avalanche_logger, "send_points", broken)
    for _ in range(5):
        logger.flush()
    assert len(calls) == 1


def test_a_store_that_cannot_be_reached(tmp_path):
    with pytest.raises(UserError, match=r"nowhere://x failed.*another uri"):
        MLflowLogger("nowhere://x")
