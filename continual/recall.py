"""What learners with experiences do at their end: embed the recordings, and remember some.

And what they do with the memory, once: see ``Recollection``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from continual.learner import ExperienceInfo
from continual.rehearsal import Memory
from multimodal.batch import Batch

AT_ONCE = 32  # recordings of a memory that are read together


@torch.no_grad()
def embed(model: Any, info: ExperienceInfo) -> Float[Tensor, "recordings dim"]:
    """(N, D) pooled embeddings of an experience's training recordings, in evaluation mode."""
    training = model.training
    model.eval()
    pooled = [model.embed(batch).cpu() for batch in info.batches()]
    model.train(training)
    return torch.cat(pooled)


def remember(memory: Memory, model: Any, info: ExperienceInfo, seed: int) -> None:
    """Offer an experience's recordings to a memory of past experiences, in a random order.

    The order depends on (seed, experience): a manifest is sorted, so in its own order a
    class-balanced memory would keep the last speaker of each class. model: as of ``embed``.
    """
    order = np.random.default_rng([seed, info.index]).permutation(len(info.rows))
    features = embed(model, info)[torch.as_tensor(order)] if memory.needs_features else None
    memory.update(info.rows[order], info.labels[order], features)


class Recollection:
    """What was made of manifest rows, once: tensors (M, ...) by name, found again by row.

    rows: (M,), each once, in any order.
    """

    def __init__(self, rows: Int[Tensor, " rows"], tensors: dict[str, Tensor]) -> None:
        device = next(iter(tensors.values())).device
        order = rows.to(device).argsort()
        self.rows = rows.to(device)[order]
        self.tensors = {name: tensor[order] for name, tensor in tensors.items()}

    @classmethod
    @torch.no_grad()
    def made(
        cls,
        rows: Int[Tensor, " rows"],
        read: Callable[[Tensor], Batch],
        make: Callable[[Batch], dict[str, Tensor]],
    ) -> Self:
        """make: a batch of N recordings -> tensors (N, ...) by name."""
        parts = [make(read(some)) for some in rows.split(AT_ONCE)]
        return cls(rows, {name: torch.cat([p[name] for p in parts]) for name in parts[0]})

    def of(self, rows: Int[Tensor, " some"]) -> dict[str, Tensor]:
        """Of rows that are all among these, as often as they are asked for."""
        at = torch.searchsorted(self.rows, rows.to(self.rows.device))
        return {name: tensor[at] for name, tensor in self.tensors.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "tensors": self.tensors}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> Self:
        return cls(state["rows"], {name: t.to(device) for name, t in state["tensors"].items()})
