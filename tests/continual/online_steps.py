"""Two batches of different classes, and one step on a batch without any strategy."""

from __future__ import annotations

import numpy as np
import torch

from multimodal.batch import Batch
from tests.continual.toy_stream import ToyData


def class_pairs(data: ToyData) -> tuple[Batch, Batch]:
    """Six recordings of classes 0 and 1, and six of classes 2 and 3."""
    train = data.manifest.indices("train")
    labels = data.manifest.labels[train]
    parts = [train[np.isin(labels, pair)][::3][:6] for pair in ((0, 1), (2, 3))]
    both = data.signals.gather(torch.as_tensor(np.concatenate(parts)))
    return both.rows(0, 6), both.rows(6, 12)


def eval_mode(learner, *batches: Batch):
    learner.model.eval()
    for batch in batches:
        learner.meet(batch.indices, batch.labels)
        learner.take_in(batch.indices, batch.labels)
    return learner


def step(learner, batch: Batch, memory: Batch | None = None, rate: float = 0.05) -> None:
    learner.model.zero_grad()
    learner.loss(batch, memory).value.backward()
    learner.after_backward()
    with torch.no_grad():
        for p in learner.model.parameters():
            if p.grad is not None:
                p -= rate * p.grad
    learner.after_step()
