"""Classifier: front end, encoder and a linear head that knows which classes are exposed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multimodal.batch import Batch
from multimodal.encoders import Encoder
from multimodal.models.towers import Reader


class Classifier(Reader):
    """``forward(batch) -> logits (N, C)``, -inf for classes that no experience has shown yet.

    The head has a row for each of the C classes of the dataset from the start, so its shape never
    changes; ``exposed`` (C,) bool is part of the state. With nothing exposed, all classes are
    scored (the untrained model). multi_label: each class is a question of its own (a positive
    logit says yes) instead of one choice among all.
    """

    exposed: Tensor

    def __init__(
        self,
        front_end: nn.Module,
        encoder: Encoder,
        num_classes: int,
        *,
        multi_label: bool = False,
    ) -> None:
        super().__init__(front_end, encoder)
        self.multi_label, self._shown = multi_label, False
        self.head = nn.Linear(encoder.width, num_classes)
        self.register_buffer("exposed", torch.zeros(num_classes, dtype=torch.bool))

    def expose(self, classes: Iterable[int]) -> None:
        """From now on these classes are scored too."""
        self.exposed[list(classes)] = True

    def meet(self, labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"]) -> None:
        """Expose the classes of labels (N,), or those with a positive in targets (N, C)."""
        if self.multi_label:
            self.exposed |= (labels == 1).any(0)
        else:
            self.exposed[labels] = True

    def embed(self, batch: Batch) -> Float[Tensor, "batch dim"]:
        """(N, D) pooled embeddings: the batch's own, if it brings those of the frozen tower."""
        return self.encode(batch)

    def scored(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """(N, C) outputs of the head for embeddings (N, D), of classes not exposed too."""
        return self.head(self.white(features))

    def raw(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """(N, C) outputs of the head, of classes not exposed too."""
        return self.scored(self.embed(batch))

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return self.mask(self.raw(batch))

    def mask(self, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """Logits (N, C) with -inf for classes that are not exposed, once some are."""
        self._shown = self._shown or bool(self.exposed.any())  # never hidden again
        return logits.masked_fill(~self.exposed, float("-inf")) if self._shown else logits
