"""From a config to its data: manifest, adapter, decoded signals, chosen classes; the seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.config.base import CommandConfig, SignalConfig
from benchmarks.runs.inputs import digests_file
from benchmarks.runs.quick import quick_part
from benchmarks.runs.workspace import check_writable
from multimodal.datasets import DatasetConfig
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError, did_you_mean
from multimodal.modalities import MODALITIES, SEVERAL, Adapter, modality_of
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache


@dataclass(frozen=True)
class Data:
    """What the cells of a grid share: the dataset, its adapter and the decoded signals.

    embeddings: the caches of frozen towers by their key; cells with the same tower share one.
    encoded: what the frozen text encoder of all cells makes of prompts and other texts.
    warmed: weights of front end and encoder that a warm-up made, if there was one. inputs: digests
    of what the cells read beside the dataset and the files that their configs name. folder: of
    signals and embeddings on disk; None: they are kept in memory.
    """

    manifest: Manifest
    adapter: Adapter
    signals: SignalCache
    embeddings: dict[str, EmbeddingCache] = field(default_factory=dict)
    encoded: dict[str, Tensor] = field(default_factory=dict)
    warmed: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None


def read_manifest(config: SignalConfig) -> Manifest:
    """The dataset as its reader sees it, of a quick run a part of it; UserError if it is of another
    modality.
    """
    manifest = build_manifest(config, part=config.quick)
    MODALITIES.config(manifest.modality)
    if manifest.modality != config.modality.registered_name:
        wanted = manifest.modality
        if wanted == SEVERAL:
            parts = dict.fromkeys(modality_of(name)[0] for name in manifest.class_names)
            wanted = f"{{name: {SEVERAL}, parts: [{', '.join(parts)}]}} and encoder={SEVERAL}"
        raise UserError(
            f"dataset {manifest.name!r} holds {manifest.modality} recordings; set "
            f"modality={wanted} (got {config.modality.registered_name})."
        )
    return manifest


def build_manifest(config: CommandConfig, *, part: bool = False) -> Manifest:
    """The dataset as its reader sees it, its files read before any signal is decoded.

    part: only as much of it as quick runs read, see ``quick_part``.
    """
    dataset = config.dataset
    assert isinstance(dataset, DatasetConfig)
    streamed = getattr(config, "scenario", None) is not None
    build = dataset.build_for_stream if streamed else dataset.build
    manifest = replace(build(config.dataset_root()), digests=digests_file(config))
    if part:
        encoder = getattr(config, "encoder", None)
        dear = streamed and isinstance(encoder, EncoderConfig) and encoder.published
        manifest = quick_part(manifest, dear=dear)
    _ = manifest.files_hash
    return manifest


def open_data(config: SignalConfig, manifest: Manifest, *, features: bool = False) -> Data:
    """The manifest with its adapter and a cache of decoded signals. features: of what the front end
    prepares of them, where that stays the same; models are then built for this adapter.
    """
    encoder = config.encoder if features else None
    return open_signals(config, manifest, config.modality, encoder)


def open_signals(
    config: CommandConfig, manifest: Manifest, modality: Any, encoder: Any = None
) -> Data:
    """modality: the config of that of the manifest. encoder: of what reads the batches, whose
    features may be held instead of signals. UserError: another rate than signals have.
    """
    if manifest.made_rate is not None and manifest.made_rate != modality.sample_rate:
        raise UserError(
            f"modality.sample_rate={modality.sample_rate}: dataset {manifest.name!r} makes its "
            f"signals at {manifest.made_rate} Hz; set modality.sample_rate={manifest.made_rate}."
        )
    for name, rate in manifest.made_rates.items():
        if modality.rate_of(name) not in (None, rate):
            raise UserError(
                f"modality.parts: dataset {manifest.name!r} makes its {name} at {rate} Hz; give "
                f"that part as {{name: {name}, sample_rate: {rate}}}."
            )
    adapter = modality.build()
    if encoder is not None and encoder.reads_features and adapter.augment() is None:
        with_features = getattr(adapter, "with_features", None)
        adapter = adapter if with_features is None else with_features()
    folder = cache_folder(config)
    if folder is not None:
        check_writable(folder)
    signals = SignalCache(manifest, adapter, folder=folder, skip_damaged=config.skip_damaged)
    return Data(manifest, adapter, signals, folder=folder)


def cache_folder(config: CommandConfig) -> Path | None:
    """Where decoded signals and embeddings are kept; None: in memory."""
    return Path(config.output_dir).expanduser() / "cache" if config.cache == "disk" else None


def seed_everything(seed: int) -> None:
    """Seed the global generators; everything of ours with a generator of its own derives it."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def chosen_classes(manifest: Manifest, names: tuple[str, ...] | None) -> tuple[int, ...]:
    """Class ids in the order of ``names``, or all; UserError for an unknown name."""
    known = list(manifest.class_names)
    for name in names or ():
        if name not in known:
            raise UserError(f"classes: no class {name!r}{did_you_mean(name, known)}")
    return tuple(range(len(known))) if names is None else tuple(known.index(n) for n in names)
