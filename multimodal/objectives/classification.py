"""Losses of classifiers that know only some of the classes yet."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


def classification_loss(
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    exposed: Bool[Tensor, " classes"],
) -> Float[Tensor, ""]:
    """Cross-entropy for labels (N,) int64, ``masked_binary_loss`` for labels (N, C) float.

    logits: (N, C), -inf where a class is not exposed. exposed: (C,) bool.
    """
    if labels.dim() == 1:
        return cross_entropy(logits, labels)
    return masked_binary_loss(logits, labels, exposed)


def recording_losses(
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    exposed: Bool[Tensor, " classes"],
) -> Float[Tensor, " batch"]:
    """(N,) cross-entropy of each recording; with targets (N, C), the sum over its known cells."""
    if labels.dim() == 1:
        return cross_entropy(logits, labels, reduction="none")
    return _cells(logits, labels, exposed)[0].sum(1)


def masked_binary_loss(
    logits: Float[Tensor, "batch classes"],
    targets: Float[Tensor, "batch classes"],
    exposed: Bool[Tensor, " classes"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy, the mean over the cells (recording, class) whose target is known.

    logits, targets: (N, C); targets in [0, 1], NaN where unknown. exposed: (C,) bool; in a class
    that the stream has not shown yet a recording is unlabelled, not negative, so those cells count
    nothing and get no gradient, whatever their logits. 0 if no cell counts.
    """
    cells, counts = _cells(logits, targets, exposed)
    return cells.sum() / counts.sum().clamp(min=1)


def _cells(logits: Tensor, targets: Tensor, exposed: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) binary cross-entropies, 0 where a cell does not count, and which ones do."""
    counts = exposed & ~targets.isnan()
    # Both are filled before the loss: masked afterwards, infinities would give NaN gradients.
    cells = binary_cross_entropy_with_logits(
        logits.masked_fill(~counts, 0.0),
        targets.masked_fill(~counts, 0.0).to(logits.dtype),
        reduction="none",
    )
    return torch.where(counts, cells, 0.0), counts
