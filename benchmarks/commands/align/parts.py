"""From the config of ``medley align`` to the parts of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import AlignData
from benchmarks.commands.align.start import load_start
from benchmarks.runs.data import chosen_classes
from multimodal.datasets.splits import hold_out_validation
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import BLOCK, EmbeddingCache
from multimodal.errors import UserError
from multimodal.loader import Loader, Signals
from multimodal.modalities import Adapter
from multimodal.modalities.text import TextAdapter
from multimodal.models.align_task import Source
from multimodal.models.refusals import refuse_objective
from multimodal.models.towers import Aligned, Reader, Tower, build_aligned
from multimodal.objectives.views import ViewsConfig
from multimodal.recordings import Manifest
from multimodal.training.meanings import refuse_misfit
from multimodal.training.processes import is_first, share_weights


def build_model(
    config: AlignConfig, adapters: Mapping[str, Adapter], *, start: Path | None = None
) -> Aligned:
    """The untrained model of a cell; UserError for checkpoints that do not fit, for whitening where
    an encoder is trained, and for an objective that needs a frozen text encoder without one.

    adapters: of the modalities of ``config.towers``. start: the run whose model it begins as.
    """
    objective, readers = config.objectives[0], {}
    assert isinstance(objective, ViewsConfig)
    for name, view in config.towers.items():
        encoder = view.encoder
        assert isinstance(encoder, EncoderConfig)
        readers[name] = Reader(encoder.front_end(adapters[name]), encoder.build(adapters[name]))
    model = build_aligned(
        readers,
        config.text,
        width=config.width,
        projection=config.projection,
        **objective.start,
    )
    if config.whiten:
        for name in readers:
            tower_of(model, name).whiten("whiten")
    refuse_objective(objective, model)
    if start is not None:
        load_start(model, start)
    return model


def tower_of(model: Aligned, modality: str) -> Tower:
    """The signal tower of a modality."""
    tower = model.signals[modality]
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
    texts = config.prompts.load(next(iter(config.towers))).texts(manifest.class_names)
    return [texts[r.label][i % len(texts[r.label])] for i, r in enumerate(manifest)]


def split_rows(config: AlignConfig, data: AlignData, manifest: Manifest, split: str) -> np.ndarray:
    """Of the chosen classes, without damaged recordings. manifest: with the cell's hold-out.

    Of several labels, recordings that have any of the classes are trained on, and all others of the
    split are scored: a class is told from those that lack it.
    """
    rows = manifest.indices(split)
    if config.classes is not None:
        chosen = list(chosen_classes(manifest, config.classes))
        if not manifest.multi_label:
            rows = rows[np.isin(manifest.labels[rows], chosen)]
        elif split == "train":
            rows = rows[(manifest.targets[rows][:, chosen] == 1).any(axis=1)]
    return data.usable(rows)


def meanings_of(config: AlignConfig, manifest: Manifest, rows: np.ndarray) -> list[str] | None:
    """The class of each row, if batches are made by it; UserError if rows have not one each."""
    if config.training.batch is None or config.training.batch.meanings is None:
        return None
    if manifest.multi_label:
        what = "several labels" if any(r.labels for r in manifest) else "no labels"
        raise UserError(
            f"training.batch.meanings={config.training.batch.meanings}: recordings of dataset "
            f"{manifest.name!r} have {what}, and a batch is made by one class each; leave "
            "training.batch out."
        )
    return [manifest.class_names[manifest.labels[row]] for row in rows]


def refuse_batches(config: AlignConfig, data: AlignData) -> None:
    """UserError if the batches of a cell cannot be made: before the first cell trains."""
    manifest = hold_out_validation(data.manifest, config.validation_fraction, seed=config.seeds[0])
    rows = split_rows(config, data, manifest, "train")
    if config.captions == "text" and config.skip_uncaptioned:
        rows = rows[[bool(manifest.recordings[row].text.strip()) for row in rows]]
    meaning_of, batch = meanings_of(config, manifest, rows), config.training.batch
    if meaning_of is not None and batch is not None and batch.meanings is not None:
        size = config.training.batch_size
        refuse_misfit(meaning_of, batch_size=size, meanings=batch.meanings)


def signal_source(
    config: AlignConfig,
    data: AlignData,
    model: Aligned,
    modality: str,
    rows: np.ndarray,
    *,
    device: torch.device,
    signals: Signals | None = None,
) -> Source:
    """Where signals come from: embeddings, if the encoder is frozen and nothing is augmented.

    rows: cases that are ever read. signals: scenes, in place of the dataset's recordings.
    """
    tower, view, read = tower_of(model, modality), config.towers[modality], data.views[modality]
    augment = read.data.adapter.augment()
    of_cases, recordings = (read.rows, read.recordings(rows)) if signals is None else (None, rows)
    taken: Signals = read.data.signals if signals is None else signals
    if not tower.frozen or augment is not None:
        return Source(taken, of_cases, augment)
    cache = EmbeddingCache(
        taken,
        tower.front_end,
        tower.encoder,
        rows=recordings,
        settings=[view.modality.dump(), view.encoder.dump()],
        folder=read.data.folder,
        device=device,
    )
    return Source(data.embeddings.setdefault(cache.key, cache), of_cases)


def count_recordings(
    tower: Tower, source: Signals | EmbeddingCache, rows: np.ndarray, *, device: torch.device
) -> None:
    """Mean and covariance of a whitened tower: of these recordings, as they are without
    augmentation, each once; nothing where it is not whitened, or has been counted for.

    Of several processes the first counts, and all have its transform, bit for bit.
    """
    white = tower.whitening
    if white is None or int(white.count):
        return
    if is_first():
        tower.eval()
        with torch.no_grad():
            for batch in Loader(source.gather, device).batches(rows, BLOCK):
                white.add(tower.encode(batch))
        white.refresh()
        tower.train()
    share_weights(white)


def text_notes(
    tokenizer: TextAdapter, count: int, distinct: int, objective: ViewsConfig
) -> list[str]:
    """Of cut texts, and of texts that several of ``count`` recordings share."""
    notes = []
    if tokenizer.truncated:
        notes.append(tokenizer.truncation_report())
    if distinct < count and not objective.spares_equal_texts:
        remedy = f" unless the objective has {objective.sparing}" if objective.sparing else ""
        notes.append(
            f"{count} training recordings share {distinct} texts; recordings of equal text are "
            f"each other's negatives{remedy}"
        )
    return notes
