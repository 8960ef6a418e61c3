"""What learners with experiences do at their end: embed the recordings, and remember some."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from continual.learner import ExperienceInfo
from continual.rehearsal import Memory


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
