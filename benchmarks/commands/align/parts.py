"""From the config of ``medley align`` to the parts of a run."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.commands.align.config import AlignConfig
from benchmarks.runs.data import Data, cache_folder, chosen_classes
from multimodal.datasets.splits import hold_out_validation
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import BLOCK, EmbeddingCache
from multimodal.errors import UserError
from multimodal.loader import Loader
from multimodal.modalities import Adapter
from multimodal.modalities.text import TextAdapter
from multimodal.models.align_task import refuse_trained_text
from multimodal.models.towers import Aligned, Reader, Tower, build_aligned
from multimodal.objectives.views import ViewsConfig
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache
from multimodal.training.meanings import refuse_misfit
from multimodal.training.processes import is_first, share_weights

MODEL_FILE = "model.safetensors"


def build_model(config: AlignConfig, adapter: Adapter) -> Aligned:
    """The untrained model of a cell; UserError for checkpoints that do not fit, for whitening where
    the encoder is trained, and for an objective that needs a frozen text encoder without one.
    """
    objective, encoder = config.objectives[0], config.encoder
    assert isinstance(objective, ViewsConfig)
    assert isinstance(encoder, EncoderConfig)
    reader = Reader(encoder.front_end(adapter), encoder.build(adapter))
    model = build_aligned(
        {config.modality.registered_name: reader},
        config.text,
        width=config.width,
        **objective.start,
    )
    if config.whiten:
        signal_tower(model).whiten("whiten")
    refuse_trained_text(objective, model)
    return model


def signal_tower(model: Aligned) -> Tower:
    """The only one of a cell's model."""
    (tower,) = model.signals.values()
    assert isinstance(tower, Tower)
    return tower


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


def split_rows(config: AlignConfig, data: Data, manifest: Manifest, split: str) -> np.ndarray:
    """Of the chosen classes, without damaged recordings. manifest: with the cell's hold-out."""
    rows = manifest.indices(split)
    if config.classes is not None:
        rows = rows[np.isin(manifest.labels[rows], chosen_classes(manifest, config.classes))]
    return data.signals.usable(rows)


def meanings_of(config: AlignConfig, manifest: Manifest, rows: np.ndarray) -> list[str] | None:
    """The class of each row, if batches are made by it; UserError if rows have not one each."""
    if config.training.batch is None:
        return None
    if manifest.multi_label:
        what = "several labels" if any(r.labels for r in manifest) else "no labels"
        raise UserError(
            f"training.batch.meanings={config.training.batch.meanings}: recordings of dataset "
            f"{manifest.name!r} have {what}, and a batch is made by one class each; leave "
            "training.batch out."
        )
    return [manifest.class_names[manifest.labels[row]] for row in rows]


def refuse_batches(config: AlignConfig, data: Data) -> None:
    """UserError if the batches of a cell cannot be made: before the first cell trains."""
    manifest = hold_out_validation(data.manifest, config.validation_fraction, seed=config.seeds[0])
    rows = split_rows(config, data, manifest, "train")
    if config.captions == "text" and config.skip_uncaptioned:
        rows = rows[[bool(manifest.recordings[row].text.strip()) for row in rows]]
    meaning_of, batch = meanings_of(config, manifest, rows), config.training.batch
    if meaning_of is not None and batch is not None:
        size = config.training.batch_size
        refuse_misfit(meaning_of, batch_size=size, meanings=batch.meanings)


def signal_source(
    config: AlignConfig, data: Data, model: Aligned, rows: np.ndarray, *, device: torch.device
) -> SignalCache | EmbeddingCache:
    """Where signals come from: embeddings, if the encoder is frozen and nothing is augmented."""
    tower = signal_tower(model)
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


def count_recordings(
    model: Aligned, source: SignalCache | EmbeddingCache, rows: np.ndarray, *, device: torch.device
) -> None:
    """Mean and covariance of a whitened model: of these recordings, as they are without
    augmentation, each once; nothing where the model is not whitened, or has been counted for.

    Of several processes the first counts, and all have its transform, bit for bit.
    """
    tower = signal_tower(model)
    white = tower.whitening
    if white is None or int(white.count):
        return
    if is_first():
        model.eval()
        with torch.no_grad():
            for batch in Loader(source.gather, device).batches(rows, BLOCK):
                white.add(tower.encode(batch))
        white.refresh()
        model.train()
    share_weights(white)


def text_notes(
    tokenizer: TextAdapter, count: int, distinct: int, objective: ViewsConfig
) -> list[str]:
    """Of cut texts, and of texts that several of ``count`` recordings share."""
    notes = []
    if tokenizer.truncated:
        notes.append(tokenizer.truncation_report())
    if distinct < count and not objective.spares_equal_texts:
        notes.append(
            f"{count} training recordings share {distinct} texts; recordings of equal text are "
            "each other's negatives unless the objective has mask_duplicates: true"
        )
    return notes
