"""What the training loop needs to fine-tune a classifier: a linear head on an encoder.

One label a recording: cross-entropy. Several: binary cross-entropy of every class whose label is
known, the mean over the known cells of the batch of all processes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from multimodal.batch import Batch
from multimodal.encoders import Encoder
from multimodal.encoders.cache import EmbeddingCache
from multimodal.models.towers import Reader
from multimodal.objectives import Loss
from multimodal.objectives.tools.gather import world_size
from multimodal.signals import SignalCache


class LinearClassifier(Reader):
    """``forward(batch) -> logits (N, C)``: front end, encoder, and a head that reads its embeddings
    (whitened, if ``whiten`` was called; see ``folded``).

    multi_label: each class is a question of its own instead of one choice among all.
    """

    def __init__(
        self, front_end: nn.Module, encoder: Encoder, head: nn.Module, *, multi_label: bool = False
    ) -> None:
        super().__init__(front_end, encoder)
        self.head, self.multi_label = head, multi_label

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return self.head(self.white(self.encode(batch)))

    @torch.no_grad()
    def probabilities(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """(N, C) float64 in [0, 1]; of one label a recording a row sums to 1.

        In float32 the sigmoid is exactly 1 from a logit of 17 on, and no threshold tells such
        recordings apart.
        """
        logits = self(batch).double()
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)


class ClassifyTask:
    """The ``Task`` of ``training/fit.py`` that trains a classifier.

    signals: where batches of recordings come from. labels: of every row of the manifest, (N,) class
    ids, or (N, C) targets: 1 present, 0 absent, NaN unknown. pos_weight: (C,) what the loss of a
    positive counts against that of a negative, of targets only. augment: as in ``Adapter.augment``.
    """

    smallest_batch = 1

    def __init__(
        self,
        module: LinearClassifier,
        signals: SignalCache | EmbeddingCache,
        labels: np.ndarray,
        *,
        pos_weight: Tensor | None = None,
        augment: Callable[[Batch], Batch] | None = None,
    ) -> None:
        assert module.multi_label == (labels.ndim == 2)
        self.module, self.signals, self.augment = module, signals, augment
        self.labels, self.pos_weight = torch.from_numpy(labels), pos_weight

    def load(self, rows: np.ndarray) -> Batch:
        return self.signals.gather(rows)

    def embed(self, batch: Batch) -> tuple[Tensor]:
        """The logits (n, C)."""
        if self.augment is not None and self.module.training:
            batch = self.augment(batch)
        return (self.module(batch),)

    def loss(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> Loss:
        (logits,) = embeddings
        labels = self.labels[torch.from_numpy(rows)].to(logits.device)
        if not self.module.multi_label:
            value = cross_entropy(logits.float(), labels)
            hits = (logits.argmax(1) == labels).float().mean()
            return Loss(value, {"train_accuracy": hits.detach()})
        return Loss(known_cells_loss(logits.float(), labels, self.pos_weight), {})

    def after_step(self) -> None:
        pass


def known_cells_loss(
    logits: Float[Tensor, "batch classes"],
    targets: Float[Tensor, "batch classes"],
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Mean over the known cells of the batches of all processes; unknown (NaN) ones count nothing.

    With y the target, p = sigmoid(logit) and w the class's ``pos_weight`` (1 without), a cell is
    -(w y log p + (1 - y) log (1 - p)). 0 without any known cell. Processes differ in how many cells
    they know, so the value here is the own sum times the number of processes over the count of all:
    its mean over the processes, and that of the gradients, is exactly that of the whole batch.
    """
    known = ~targets.isnan()
    weight = None if pos_weight is None else pos_weight.to(logits)
    # Filled before the loss: a NaN masked afterwards would give NaN gradients.
    cells = binary_cross_entropy_with_logits(
        logits.masked_fill(~known, 0.0),
        targets.masked_fill(~known, 0.0).to(logits.dtype),
        reduction="none",
        pos_weight=weight,
    )
    count = known.sum().to(logits.dtype)
    if world_size() > 1:
        dist.all_reduce(count)
    return torch.where(known, cells, 0.0).sum() * world_size() / count.clamp(min=1)


def positive_weights(targets: np.ndarray) -> Tensor:
    """(N, C) targets of the training recordings -> (C,) known negatives over positives; a class
    that lacks one of the two has 1.
    """
    positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    ratio = np.divide(
        negatives, positives, out=np.ones(len(positives)), where=(positives > 0) & (negatives > 0)
    )
    return torch.from_numpy(ratio).float()
