"""Classifier: front end, encoder and a linear head that knows which classes are exposed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn

from multimodal.batch import Batch
from multimodal.encoders import Encoder


class Classifier(nn.Module):
    """``forward(batch) -> logits (N, C)``, -inf for classes that no experience has shown yet.

    The head has a row for each of the C classes of the dataset from the start, so its shape never
    changes; ``exposed`` (C,) bool is part of the state. With nothing exposed, all classes are
    scored (the untrained model). multi_label: each class is a question of its own (a positive
    logit says yes) instead of one choice among all.
    """

    front_end: nn.Module
    encoder: nn.Module
    exposed: Tensor

    def __init__(
        self,
        front_end: nn.Module,
        encoder: Encoder,
        num_classes: int,
        *,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.multi_label = multi_label
        assert isinstance(encoder, nn.Module)
        self.front_end, self.encoder = front_end, encoder
        self.head = nn.Linear(encoder.width, num_classes)
        self.register_buffer("exposed", torch.zeros(num_classes, dtype=torch.bool))

    @property
    def frozen(self) -> bool:
        """Nothing of the tower (front end and encoder) is trained."""
        parameters = [*self.front_end.parameters(), *self.encoder.parameters()]
        return not any(p.requires_grad for p in parameters)

    def train(self, mode: bool = True) -> Self:
        """A frozen tower stays in evaluation mode: it must be deterministic, without dropout."""
        super().train(mode)
        if self.frozen:
            self.front_end.eval()
            self.encoder.eval()
        return self

    def expose(self, classes: Iterable[int]) -> None:
        """From now on these classes are scored too."""
        self.exposed[list(classes)] = True

    def embed(self, batch: Batch) -> Tensor:
        """(N, D) pooled embeddings: the batch's own, if it brings those of the frozen tower."""
        if batch.embeddings is not None:
            return batch.embeddings
        features = self.front_end(batch)
        return self.encoder(features.values, features.lengths).pooled

    def forward(self, batch: Batch) -> Tensor:
        logits = self.head(self.embed(batch))
        unseen = ~self.exposed & self.exposed.any()
        return logits.masked_fill(unseen, float("-inf"))
