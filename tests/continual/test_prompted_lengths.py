"""Prompt methods on a pretrained encoder: sounds of like length together give what all do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.prompting import PromptModel
from multimodal.batch import Batch
from multimodal.encoders import ENCODERS
from multimodal.modalities.speech import SpeechConfig
from tests.multimodal.encoders.audio_checkpoints import batch_of, whisper

LENGTHS = [9_000, 40_000, 3_000, 9_500, 21_000, 16_000]  # samples; a window of Whisper has 16,000


def learner_of(folder: Path, name: str, **fields: Any) -> Any:
    adapter = SpeechConfig().build()
    encoder: Any = ENCODERS.parse({"name": "pretrained", "checkpoint": str(folder), **fields})
    torch.manual_seed(0)
    model = Classifier(encoder.front_end(adapter), encoder.build(adapter), 3)
    config: Any = LEARNERS.parse({"name": name})
    return config.build(LearnerContext(model, seed=1))


def sounds() -> Batch:
    rng = np.random.default_rng(0)
    batch = batch_of([rng.normal(0, 0.1, n).astype(np.float32) for n in LENGTHS])
    return Batch(batch.inputs, batch.lengths, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))


def lesson(learner: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its gradients."""
    learner.meet(batch.indices, batch.labels)
    learner.model.zero_grad()
    loss = learner.loss(batch, None).value
    loss.backward()
    named = learner.model.named_parameters()
    return loss.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


@pytest.mark.parametrize("name", ["l2p", "dual_prompt", "mvp"])
@pytest.mark.parametrize("kind", ["whole", "cut"])
def test_losses_and_gradients_are_those_of_one_batch(tmp_path, monkeypatch, name, kind) -> None:
    whisper(tmp_path)
    batch, fields = sounds(), {"window": kind}
    learner = learner_of(tmp_path, name, **fields)
    parts = [sorted(p.tolist()) for p in learner.model._alike(batch)]
    assert parts == [[2], [0, 3], [5], [4], [1]]
    loss, gradients = lesson(learner, batch)
    monkeypatch.setattr(PromptModel, "_alike", lambda self, b: [torch.arange(len(b))])
    expected, expected_gradients = lesson(learner_of(tmp_path, name, **fields), batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert gradients.keys() == expected_gradients.keys()
    assert gradients["prompts"].abs().sum() > 0
    for n, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[n], rtol=1e-3, atol=1e-5)


def test_queries_of_the_last_layer_are_the_embeddings_of_the_tower(tmp_path) -> None:
    whisper(tmp_path)
    for name, shared in (("l2p", True), ("dual_prompt", True), ("mvp", False)):
        learner = learner_of(tmp_path, name)
        tower = learner.frozen_tower()
        assert (tower.encoder is learner.classifier.encoder) == shared
        features = learner.model.features(sounds())
        with torch.no_grad():
            cached = tower.encoder(*features).pooled
        torch.testing.assert_close(cached, learner.model.query(sounds()), rtol=0, atol=0)
