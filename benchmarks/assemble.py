"""From a config to the parts of a run: data, learner, seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.config import CommandConfig, RunConfig, SignalConfig, TrainingConfig
from benchmarks.workspace import check_writable
from continual.classifier import Classifier
from continual.learners import Learner, LearnerContext
from continual.learners.cwcl import AlignedClassifier
from continual.scenarios import Stream
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
    """

    manifest: Manifest
    adapter: Adapter
    signals: SignalCache
    embeddings: dict[str, EmbeddingCache] = field(default_factory=dict)


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
    context = LearnerContext(
        model=model,
        seed=config.seeds[0],
        class_names=data.manifest.class_names,
        modality=config.modality.registered_name,
        texts=data.manifest.texts,
        cache_folder=cache_folder(config),
    )
    return config.learners[0].build(context)  # pyright: ignore[reportAttributeAccessIssue]


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
) -> SignalCache | EmbeddingCache:
    """Where the learner's batches come from: embeddings, if its tower is frozen.

    With augmentation there is nothing to cache: every epoch sees other signals.
    """
    model = learner.model
    known = isinstance(model, Classifier | AlignedClassifier)
    frozen = learner.trains and known and model.frozen
    if not frozen or data.adapter.augment() is not None:
        return data.signals
    assert isinstance(model, Classifier | AlignedClassifier)
    cache = EmbeddingCache(
        data.signals,
        model.front_end,
        model.encoder,
        rows=stream.rows,
        settings=[config.modality.dump(), config.encoder.dump()],
        folder=cache_folder(config),
        device=device,
    )
    return data.embeddings.setdefault(cache.key, cache)


def seed_everything(seed: int) -> None:
    """Seed the global generators; everything of ours with a generator of its own derives it."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
