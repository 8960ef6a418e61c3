"""From the config of ``medley align`` to the parts of a run."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.commands.align.config import AlignConfig
from benchmarks.runs.data import Data, cache_folder
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.modalities import Adapter
from multimodal.modalities.text import TextAdapter
from multimodal.models.towers import Aligned, Reader, Tower, build_aligned
from multimodal.objectives.pairs import AlignmentConfig
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache

MODEL_FILE = "model.safetensors"


def build_model(config: AlignConfig, adapter: Adapter) -> Aligned:
    """The untrained model of a cell; UserError for checkpoints that do not fit."""
    objective, encoder = config.objectives[0], config.encoder
    assert isinstance(objective, AlignmentConfig)
    assert isinstance(encoder, EncoderConfig)
    reader = Reader(encoder.front_end(adapter), encoder.build(adapter))
    return build_aligned(
        {config.modality.registered_name: reader},
        config.text,
        width=config.width,
        **objective.start,
    )


def caption_texts(config: AlignConfig, manifest: Manifest) -> list[str]:
    """The text of each row: its own, or a prompt of its class, the templates in turn."""
    if config.captions == "text":
        return [r.text for r in manifest]
    if manifest.multi_label:
        raise UserError(
            f"captions=labels: recordings of {manifest.name!r} have several labels; use "
            "captions=text."
        )
    texts = config.prompts.load(config.modality.registered_name).texts(manifest.class_names)
    return [texts[r.label][i % len(texts[r.label])] for i, r in enumerate(manifest)]


def signal_source(
    config: AlignConfig, data: Data, model: Aligned, rows: np.ndarray, *, device: torch.device
) -> SignalCache | EmbeddingCache:
    """Where signals come from: embeddings, if the encoder is frozen and nothing is augmented."""
    (tower,) = model.signals.values()
    assert isinstance(tower, Tower)
    if not tower.frozen or data.adapter.augment() is not None:
        return data.signals
    cache = EmbeddingCache(
        data.signals,
        tower.front_end,
        tower.encoder,
        rows=rows,
        settings=[config.modality.dump(), config.encoder.dump()],
        folder=cache_folder(config),
        device=device,
    )
    return data.embeddings.setdefault(cache.key, cache)


def text_notes(
    tokenizer: TextAdapter, count: int, distinct: int, objective: AlignmentConfig
) -> list[str]:
    """Of cut texts, and of texts that several of ``count`` recordings share."""
    notes = []
    if tokenizer.truncated:
        notes.append(tokenizer.truncation_report())
    if distinct < count and not objective.mask_duplicates:
        notes.append(
            f"{count} training recordings share {distinct} texts; recordings of equal text are "
            "each other's negatives unless the objective has mask_duplicates: true"
        )
    return notes
