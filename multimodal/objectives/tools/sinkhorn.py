"""Balanced assignments by Sinkhorn and Knopp, in the log domain."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from multimodal.objectives.tools.gather import gather_rows


@torch.no_grad()
def sinkhorn(
    logits: Float[Tensor, "rows columns"], *, rounds: int = 3, gather: bool = False
) -> Float[Tensor, "rows columns"]:
    """Assignments of rows to columns, e^logits whose columns and rows are made to sum to the same
    in turn (Cuturi 2013, arXiv:1306.0895).

    Each row ends with a sum of 1; columns have equal sums in the limit of many rounds only. Without
    gradient. Logits may be of any size: exp(1 / 0.05) is never computed. gather: columns are
    balanced over the rows of all processes. ValueError: rounds below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds: {rounds}; give at least 1.")
    logits = logits.detach()
    for _ in range(rounds):
        mass = logits.logsumexp(0, keepdim=True)
        if gather:
            mass = gather_rows(mass, grad=False).logsumexp(0, keepdim=True)
        logits = (logits - mass).log_softmax(1)
    return logits.exp()
