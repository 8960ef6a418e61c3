"""Scores of an alignment run: zero-shot, retrieval, and what labels make of its embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import AlignData
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.evaluation.embeddings import embed_rows
from multimodal.evaluation.linear_probe import LabelledSet, probe_metrics
from multimodal.evaluation.prompts import Prompts
from multimodal.evaluation.scores import Scores, Wanted, score
from multimodal.loader import Loader, Signals
from multimodal.models.align_task import Source
from multimodal.models.towers import Aligned
from multimodal.recordings import Manifest

MOST_PROBED = 20_000  # training recordings; a probe of more takes too long
VALIDATED = ("zero_shot_top1", "mean_average_precision", "map_at_10")  # the first that there is


@dataclass(frozen=True)
class Scorer:
    """Of recordings of one modality.

    manifest: with validation held out. rows: of each split. classes: the candidates. sources: where
    batches of signals come from.
    """

    config: AlignConfig
    model: Aligned
    data: AlignData
    manifest: Manifest
    rows: Mapping[str, np.ndarray]
    classes: tuple[int, ...]
    prompts: Prompts
    sources: Mapping[str, Source]
    device: torch.device

    @property
    def source(self) -> Signals | EmbeddingCache:
        (source,) = self.sources.values()
        return source.signals

    def scores(self, split: str, *, whole: bool = True) -> Scores:
        """Of the recordings of a split; whole: with every part of the report."""
        rows, embedded = self.rows[split], self._embed(self.rows[split])
        wanted = Wanted(
            self.classes,
            ensemble=self.config.prompts.ensemble,
            robustness=whole,
            retrieval=self.config.captions == "text",
            diagnostics=whole,
            intervals=whole,
        )
        scores = score(
            embedded,
            self.model.embed_texts,
            self.manifest,
            rows,
            prompts=self.prompts,
            wanted=wanted,
            seed=self.config.seeds[0],
        )
        if whole and split == "test":
            scores.metrics |= self._probes(embedded)
        return scores

    def validation_score(self) -> float:
        """Zero-shot top-1 accuracy of the validation recordings, or their text-to-signal mAP@10."""
        metrics = self.scores("validation", whole=False).metrics
        found = [metrics[key] for key in VALIDATED if metrics.get(key) is not None]
        if not found:
            raise UserError(
                "validation recordings have neither two classes nor texts to score them by; set "
                "validation_fraction=0."
            )
        return float(found[0] or 0.0)

    def _probes(self, embedded: Tensor) -> dict[str, float]:
        """What labels would make of the same test embeddings: the upper reference of a table.

        None where no class of the test recordings has training recordings.
        """
        train, labels = self.rows["train"], self.manifest.labels
        if self.manifest.multi_label or not 2 <= len(train) <= MOST_PROBED:
            return {}
        test = self.rows["test"]
        if not np.isin(labels[test], labels[train]).any():
            return {}
        known = LabelledSet(self._embed(train), labels[train])
        tested = LabelledSet(embedded, labels[test])
        return probe_metrics(known, tested, self.manifest.num_classes)

    def _embed(self, rows: np.ndarray) -> Tensor:
        self.model.eval()
        self.source.ensure(rows)
        embedded = embed_rows(
            self.model.embed_signals,
            Loader(self.source.gather, self.device),
            rows,
            batch_size=self.config.training.eval_batch_size,
        )
        self.model.train()
        return embedded
