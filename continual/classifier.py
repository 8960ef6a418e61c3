"""Classifier: front end, encoder and a linear head that knows which classes are exposed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from multimodal.batch import Batch


class Classifier(nn.Module):
    """``forward(batch) -> logits (N, C)``, -inf for classes that no experience has shown yet.

    The head has a row for each of the C classes of the dataset from the start, so its shape never
    changes; ``exposed`` (C,) bool is part of the state. With nothing exposed, all classes are
    scored (the untrained model).
    """

    exposed: Tensor

    def __init__(self, front_end: nn.Module, encoder: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.front_end, self.encoder = front_end, encoder
        self.head = nn.Linear(int(encoder.width), num_classes)  # pyright: ignore[reportArgumentType]
        self.register_buffer("exposed", torch.zeros(num_classes, dtype=torch.bool))

    def expose(self, classes: Iterable[int]) -> None:
        """From now on these classes are scored too."""
        self.exposed[list(classes)] = True

    def embed(self, batch: Batch) -> Tensor:
        """(N, D) pooled embeddings."""
        features = self.front_end(batch)
        return self.encoder(features.values, features.lengths).pooled

    def forward(self, batch: Batch) -> Tensor:
        logits = self.head(self.embed(batch))
        unseen = ~self.exposed & self.exposed.any()
        return logits.masked_fill(unseen, float("-inf"))
