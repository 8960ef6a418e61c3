"""From the config of ``medley bench`` to a cell's learner, its optimiser and its batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from benchmarks.commands.bench.config import RunConfig, TrainingConfig
from benchmarks.runs.data import Data
from continual.classifier import Classifier
from continual.learner import Learner, LearnerContext
from continual.scenarios import Stream
from multimodal.batch import Batch
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import EmbeddingCache
from multimodal.modalities import Adapter
from multimodal.signals import SignalCache
from multimodal.training.optim import parameter_groups


def build_learner(config: RunConfig, data: Data, device: torch.device) -> Learner:
    """The cell's learner around a freshly initialised classifier, on the device."""
    manifest = data.manifest
    model = classifier(
        config, data.adapter, manifest.num_classes, manifest.multi_label, data.warmed, device
    )
    context = LearnerContext(
        model=model,
        seed=config.seeds[0],
        class_names=manifest.class_names,
        modality=config.modality.registered_name,
        texts=manifest.texts,
        cache_folder=data.folder,
        groups=tuple(manifest.groups),
        slots=manifest.slots,
    )
    return learner_of(config, context, device)


def classifier(
    config: RunConfig,
    adapter: Adapter,
    num_classes: int,
    multi_label: bool,
    warmed: dict[str, Tensor],
    device: torch.device,
) -> Classifier:
    """Freshly initialised; warmed: weights of front end and encoder that take the place of that."""
    assert isinstance(config.encoder, EncoderConfig)
    front_end, encoder = config.encoder.front_end(adapter), config.encoder.build(adapter)
    model = Classifier(front_end, encoder, num_classes, multi_label=multi_label).to(device)
    if warmed:
        places = {_unadapted(name): name for name in model.state_dict()}
        weights = {places[name]: tensor for name, tensor in warmed.items()}
        model.load_state_dict({**model.state_dict(), **weights})
    return model


def _unadapted(name: str) -> str:
    """What a weight of an encoder with LoRA is called in its base."""
    return name.replace("encoder.peft.base_model.model.", "encoder.").replace(".base_layer.", ".")


def learner_of(config: RunConfig, context: LearnerContext, device: torch.device) -> Learner:
    """The cell's learner around the model of ``context``."""
    learner = config.learners[0].build(context)  # pyright: ignore[reportAttributeAccessIssue]
    learner.model.to(device)  # also what the learner has added to it
    return learner


def build_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW of what is trained; the same parameters decay as in alignment."""
    groups = parameter_groups(model, training.weight_decay) or [{"params": []}]
    return torch.optim.AdamW(groups, lr=training.learning_rate)


def batch_source(
    config: RunConfig, data: Data, stream: Stream, learner: Learner, device: torch.device
) -> SignalCache | EmbeddingCache | WithQueries | Unread:
    """Where the learner's batches come from: embeddings, if its tower is frozen.

    With augmentation there is nothing to cache: every epoch sees other signals.
    """
    if not learner.reads:
        return Unread(data.signals)
    tower = learner.frozen_tower()
    if tower is None or data.adapter.augment() is not None:
        return data.signals
    cache = EmbeddingCache(
        data.signals,
        tower.front_end,
        tower.encoder,
        rows=stream.rows,
        settings=[config.modality.dump(), config.encoder.dump()],
        folder=data.folder,
        device=device,
    )
    cache = data.embeddings.setdefault(cache.key, cache)
    return WithQueries(data.signals, cache) if tower.beside else cache


@dataclass(frozen=True)
class Unread:
    """Batches without signals, for a learner that looks at none; nothing is decoded."""

    signals: SignalCache

    def ensure(self, indices: ArrayLike) -> None:
        """There is nothing to decode."""

    def lengths(self, indices: ArrayLike) -> np.ndarray:
        """All alike, so that batches are in order."""
        return np.ones(len(np.asarray(indices)), dtype=np.int64)

    def gather(self, indices: ArrayLike) -> Batch:
        return self.signals.annotations(np.asarray(indices, dtype=np.int64))


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
