"""From the config of ``medley bench`` to a cell's learner, its optimiser and its batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from benchmarks.commands.bench.config import RunConfig, TrainingConfig
from benchmarks.runs.data import Data, cache_folder
from continual.classifier import Classifier
from continual.learner import Learner, LearnerContext
from continual.scenarios import Stream
from multimodal.batch import Batch
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import EmbeddingCache
from multimodal.signals import SignalCache
from multimodal.training.optim import parameter_groups


def build_learner(config: RunConfig, data: Data, device: torch.device) -> Learner:
    """The cell's learner around a freshly initialised classifier, on the device."""
    assert isinstance(config.encoder, EncoderConfig)
    front_end, encoder = config.encoder.front_end(data.adapter), config.encoder.build(data.adapter)
    classes, multi_label = data.manifest.num_classes, data.manifest.multi_label
    model = Classifier(front_end, encoder, classes, multi_label=multi_label).to(device)
    if data.warmed:
        model.load_state_dict({**model.state_dict(), **data.warmed})
    context = LearnerContext(
        model=model,
        seed=config.seeds[0],
        class_names=data.manifest.class_names,
        modality=config.modality.registered_name,
        texts=data.manifest.texts,
        cache_folder=cache_folder(config),
    )
    learner = config.learners[0].build(context)  # pyright: ignore[reportAttributeAccessIssue]
    learner.model.to(device)  # also what the learner has added to it
    return learner


def build_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW of what is trained; the same parameters decay as in alignment."""
    groups = parameter_groups(model, training.weight_decay) or [{"params": []}]
    return torch.optim.AdamW(groups, lr=training.learning_rate)


def batch_source(
    config: RunConfig, data: Data, stream: Stream, learner: Learner, device: torch.device
) -> SignalCache | EmbeddingCache | WithQueries:
    """Where the learner's batches come from: embeddings, if its tower is frozen.

    With augmentation there is nothing to cache: every epoch sees other signals.
    """
    tower = learner.frozen_tower()
    if not learner.reads or tower is None or data.adapter.augment() is not None:
        return data.signals
    cache = EmbeddingCache(
        data.signals,
        tower.front_end,
        tower.encoder,
        rows=stream.rows,
        settings=[config.modality.dump(), config.encoder.dump()],
        folder=cache_folder(config),
        device=device,
    )
    cache = data.embeddings.setdefault(cache.key, cache)
    return WithQueries(data.signals, cache) if tower.beside else cache


@dataclass(frozen=True)
class WithQueries:
    """Signals, with what a frozen encoder's prompts are chosen by as their ``embeddings``."""

    signals: SignalCache
    queries: EmbeddingCache

    def ensure(self, indices: ArrayLike) -> None:
        self.signals.ensure(indices)
        self.queries.ensure(indices)

    def lengths(self, indices: ArrayLike) -> np.ndarray:
        return self.signals.lengths(indices)

    def gather(self, indices: ArrayLike) -> Batch:
        batch = self.signals.gather(indices)
        return replace(batch, embeddings=self.queries.gather(indices).embeddings)
