"""What the training loop needs to align a modality with text: pairs, embeddings, objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.objectives import Loss
from multimodal.objectives.alignment import AlignmentConfig, Pairs
from multimodal.objectives.gather import world_size
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from multimodal.towers import Aligned

NO_TEXT = -1


class Captions:
    """The texts of a manifest's rows; equal ones are one text.

    texts: of each row, "" where it has none. of_row: (N,) int64, number of the text, -1 for none.
    ``gather(rows)`` is a Batch of token ids or, where the text encoder is frozen, of its outputs,
    which are computed once (and kept in ``folder``, if given).
    """

    def __init__(
        self, texts: Sequence[str], model: Aligned, *, settings: object, folder: Path | None = None
    ) -> None:
        self.unique = tuple(sorted({text for text in texts if text.strip()}))
        if not self.unique:
            raise UserError(
                "every recording has an empty caption; set captions=labels to use class prompts."
            )
        number = {text: i for i, text in enumerate(self.unique)}
        self.of_row = np.array([number.get(text, NO_TEXT) for text in texts], dtype=np.int64)
        signals = SignalCache(_as_manifest(self.unique), model.tokenizer)
        self._source: SignalCache | EmbeddingCache = signals
        if model.text.frozen:
            self._source = EmbeddingCache(
                signals,
                model.text.front_end,
                model.text.encoder,
                rows=np.arange(len(self.unique)),
                settings=settings,
                folder=folder,
                device=model.log_scale.device,
            )

    def has_text(self, rows: np.ndarray) -> np.ndarray:
        """(N,) bool."""
        return self.of_row[rows] != NO_TEXT

    def refuse_missing(self, rows: np.ndarray, manifest: Manifest) -> None:
        """UserError naming the recordings among ``rows`` that have no text."""
        missing = rows[~self.has_text(rows)]
        if len(missing):
            names = ", ".join(repr(manifest.recordings[i].uid) for i in missing[:5])
            more = ", ..." if len(missing) > 5 else ""
            raise UserError(
                f"{len(missing)} of {len(rows)} recordings of dataset {manifest.name!r} have an "
                f"empty caption: {names}{more}; write them, set skip_uncaptioned=true to leave the "
                "recordings out, or captions=labels."
            )

    def ensure(self, rows: np.ndarray) -> None:
        """Embed, or tokenise, the texts of these rows."""
        self._source.ensure(np.unique(self.of_row[rows]))

    def gather(self, rows: np.ndarray) -> Batch:
        return self._source.gather(self.of_row[rows])


def _as_manifest(texts: Sequence[str]) -> Manifest:
    rows = tuple(
        Recording(uid=f"{i:09d}", labels=(0,), split="train", text=text)
        for i, text in enumerate(texts)
    )
    return Manifest(
        name="captions", modality="text", class_names=("text",), recordings=rows, version="1"
    )


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


class AlignTask:
    """The ``Task`` of ``training.py`` that aligns one modality of ``module`` with its captions.

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
        if objective.needs_frozen_text and not module.text.frozen:
            raise UserError(
                f"objective {objective.registered_name!r} takes its weights from a frozen text "
                "encoder; set text.train=none, or choose clip or siglip."
            )
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


@torch.no_grad()
def embed_rows(
    embed: Callable[[Batch], Tensor],
    gather: Callable[[np.ndarray], Batch],
    rows: np.ndarray,
    *,
    device: torch.device,
    batch_size: int,
) -> Tensor:
    """(N, D) float32 on the CPU, in the order of ``rows``; the model is in evaluation mode."""
    parts = [
        embed(gather(rows[start : start + batch_size]).to(device)).float().cpu()
        for start in range(0, len(rows), batch_size)
    ]
    return torch.cat(parts)
