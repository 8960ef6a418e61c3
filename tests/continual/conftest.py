from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from continual.classifier import Classifier
from continual.classifier_learner import freeze_encoder
from continual.learner import LEARNERS, Learner, LearnerContext
from continual.scenarios import SCENARIOS, Stream
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.strategy import LearnerStrategy
from multimodal.encoders.compact import CompactEncoder
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache
from tests.continual.toy_stream import ToyData
from tests.toy import toy_manifest


@pytest.fixture(scope="session")
def data() -> ToyData:
    manifest, adapter = toy_manifest(), SpeechConfig().build()
    return ToyData(manifest, adapter, SignalCache(manifest, adapter, progress=False))


@pytest.fixture(scope="session")
def stream(data: ToyData) -> Stream:
    config = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 2})
    return config.build(data.manifest, 0)  # type: ignore[attr-defined]


@pytest.fixture
def make_learner(data: ToyData) -> Callable[..., Learner]:
    def make(name: str, **fields: object) -> Learner:
        torch.manual_seed(0)
        front_end = data.adapter.front_end()
        encoder = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.1)
        model = Classifier(front_end, encoder, data.manifest.num_classes)
        if "head" in fields:  # a whitened one
            freeze_encoder(model)
        config = LEARNERS.parse({"name": name, **fields})
        return config.build(LearnerContext(model, seed=1))  # type: ignore[attr-defined]

    return make


@pytest.fixture
def make_strategy(data: ToyData, stream: Stream) -> Callable[..., tuple[LearnerStrategy, object]]:
    def make(learner: Learner, **changes: object) -> tuple[LearnerStrategy, object]:
        trainable = [p for p in learner.model.parameters() if p.requires_grad]
        fields: dict[str, object] = {
            "optimizer": torch.optim.AdamW(trainable, lr=3e-3),
            "seed": 1,
            "train_mb_size": 6,
            "train_epochs": 2,
        }
        strategy = LearnerStrategy(
            learner=learner,
            stream=stream,
            gather=data.signals.gather,
            **{**fields, **changes},  # type: ignore[arg-type]
        )
        return strategy, as_benchmark(stream, data.signals.gather, train_rows=strategy.rows)

    return make
