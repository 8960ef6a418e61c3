"""From a config to the parts of a run: data, learner, seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from benchmarks.bench_config import RunConfig, TrainingConfig
from benchmarks.config.base import CommandConfig, SignalConfig
from benchmarks.workspace import check_writable
from continual.classifier import Classifier
from continual.learners import Learner, LearnerContext
from continual.learners.cwcl import AlignedClassifier
from continual.prompting import PromptModel
from continual.scenarios import Stream
from multimodal.batch import Batch
from multimodal.datasets import DatasetConfig
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES, Adapter
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache


@dataclass(frozen=True)
class Data:
    """What the cells of a grid share: the dataset, its adapter and the decoded signals.

    embeddings: the caches of frozen towers by their key; cells with the same tower share one.
    warmed: weights of front end and encoder that a warm-up made, if there was one.
    """

    manifest: Manifest
    adapter: Adapter
    signals: SignalCache
    embeddings: dict[str, EmbeddingCache] = field(default_factory=dict)
    warmed: dict[str, Tensor] = field(default_factory=dict)


def read_manifest(config: SignalConfig) -> Manifest:
    """The dataset as its reader sees it; UserError if it is of another modality."""
    dataset = config.dataset
    assert isinstance(dataset, DatasetConfig)
    manifest = dataset.build(config.dataset_root())
    MODALITIES.config(manifest.modality)
    if manifest.modality != config.modality.registered_name:
        raise UserError(
            f"dataset {manifest.name!r} holds {manifest.modality} recordings; set "
            f"modality={manifest.modality} (got {config.modality.registered_name})."
        )
    return manifest


def open_data(config: SignalConfig, manifest: Manifest) -> Data:
    """The manifest with its adapter and a cache of decoded signals."""
    modality: Any = config.modality
    if manifest.made_rate is not None and manifest.made_rate != modality.sample_rate:
        raise UserError(
            f"modality.sample_rate={modality.sample_rate}: dataset {manifest.name!r} makes its "
            f"signals at {manifest.made_rate} Hz; set modality.sample_rate={manifest.made_rate}."
        )
    adapter = modality.build()
    folder = cache_folder(config)
    if folder is not None:
        check_writable(folder)
    signals = SignalCache(manifest, adapter, folder=folder, skip_damaged=config.skip_damaged)
    return Data(manifest, adapter, signals)


def cache_folder(config: CommandConfig) -> Path | None:
    """Where decoded signals and embeddings are kept; None: in memory."""
    return Path(config.output_dir) / "cache" if config.cache == "disk" else None


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
    """AdamW of what is trained; a scale of cosines is no weight that should shrink."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim]},
        {"params": [p for p in trained if not p.ndim], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]] or groups[:1],
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
    )


def batch_source(
    config: RunConfig, data: Data, stream: Stream, learner: Learner, device: torch.device
) -> SignalCache | EmbeddingCache | WithQueries:
    """Where the learner's batches come from: embeddings, if its tower is frozen.

    Prompts change what a frozen encoder makes of a signal, but not what they are chosen by.

    With augmentation there is nothing to cache: every epoch sees other signals.
    """
    model, tower = learner.model, None
    if isinstance(model, PromptModel):
        tower = model.classifier.front_end, model.query_encoder
    elif isinstance(model, Classifier | AlignedClassifier) and model.frozen:
        tower = model.front_end, model.encoder
    if not learner.reads or tower is None or data.adapter.augment() is not None:
        return data.signals
    cache = EmbeddingCache(
        data.signals,
        *tower,
        rows=stream.rows,
        settings=[config.modality.dump(), config.encoder.dump()],
        folder=cache_folder(config),
        device=device,
    )
    cache = data.embeddings.setdefault(cache.key, cache)
    return WithQueries(data.signals, cache) if isinstance(model, PromptModel) else cache


@dataclass(frozen=True)
class WithQueries:
    """Signals, with what a frozen encoder's prompts are chosen by as their ``embeddings``."""

    signals: SignalCache
    queries: EmbeddingCache

    def ensure(self, indices: ArrayLike) -> None:
        self.signals.ensure(indices)
        self.queries.ensure(indices)

    def gather(self, indices: ArrayLike) -> Batch:
        batch = self.signals.gather(indices)
        return replace(batch, embeddings=self.queries.gather(indices).embeddings)


def seed_everything(seed: int) -> None:
    """Seed the global generators; everything of ours with a generator of its own derives it."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
