"""What the training loop needs to align a modality with text: pairs, embeddings, objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.models.captions import Captions
from multimodal.models.towers import Aligned
from multimodal.objectives import Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.gather import world_size
from multimodal.signals import SignalCache


@dataclass(frozen=True)
class PairBatch:
    """Signals and texts of the same recordings."""

    signals: Batch
    texts: Batch

    def __len__(self) -> int:
        return len(self.signals)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        return PairBatch(
            self.signals.to(device, non_blocking=non_blocking),
            self.texts.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> PairBatch:
        return PairBatch(self.signals.pin_memory(), self.texts.pin_memory())


def refuse_trained_text(objective: AlignmentConfig, model: Aligned) -> None:
    """UserError where an objective needs a frozen text encoder, and the model's is trained."""
    if objective.needs_frozen_text and not model.text.frozen:
        raise UserError(
            f"objective {objective.registered_name!r} takes its weights from a frozen text "
            "encoder; set text.train=none, or choose clip or siglip."
        )


class AlignTask:
    """The ``Task`` of ``training/fit.py`` that aligns one modality of ``module`` with its captions.

    signals: where batches of recordings come from. augment: as in ``Adapter.augment``.
    UserError if the objective needs a frozen text encoder and this one is trained.
    """

    def __init__(
        self,
        module: Aligned,
        modality: str,
        signals: SignalCache | EmbeddingCache,
        captions: Captions,
        objective: AlignmentConfig,
        *,
        augment: Callable[[Batch], Batch] | None = None,
    ) -> None:
        refuse_trained_text(objective, module)
        self.module, self.modality, self.signals = module, modality, signals
        self.captions, self.objective, self.augment = captions, objective, augment

    def load(self, rows: np.ndarray) -> PairBatch:
        return PairBatch(self.signals.gather(rows), self.captions.gather(rows))

    def embed(self, batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Signals (n, D), texts (n, D) and the text encoder's outputs (n, W)."""
        signals = batch.signals
        if self.augment is not None and self.module.training:
            signals = self.augment(signals)
        source = self.module.text.encode(batch.texts)
        return (
            self.module.signals[self.modality](signals),
            self.module.text.projection(source),
            source,
        )

    def loss(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> Loss:
        signals, texts, source = embeddings
        ids = torch.from_numpy(self.captions.of_row[rows]).to(signals.device)
        pairs = Pairs(signals, texts, source, ids, self.module.scale, self.module.bias)
        return self.objective.loss(pairs, gather=world_size() > 1)

    def after_step(self) -> None:
        self.module.clamp_scale()
