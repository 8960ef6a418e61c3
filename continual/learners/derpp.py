"""DER++ (Buzzega et al. 2020): replay of labels and of the logits that recordings once had.

    L = CE(h(x), y) + alpha MSE(h(x'), z') + beta CE(h(x''), y''),   Dark Experience Replay, eq. 6

x' and x'' are two independent draws from a reservoir; z' are the head's outputs, before any mask,
of the step after which x' entered it. The MSE is over the classes exposed then. The reservoir is
fed once a stream batch (released variants offer a recording in every inner step). Where a head is
whitened, z' are the outputs of then, whatever the whitening is now.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from continual.classifier import Classifier
from continual.classifier_learner import RehearsalLearner
from continual.learner import LEARNERS, LearnerContext
from continual.learners.er import RehearsalConfig
from multimodal.batch import Batch
from multimodal.objectives import Loss
from multimodal.objectives.classification import classification_loss


@LEARNERS.register("derpp")
class DerppConfig(RehearsalConfig):
    """alpha, beta: weights of the replayed logits and labels."""

    alpha: Annotated[float, Field(ge=0)] = 0.2
    beta: Annotated[float, Field(ge=0)] = 0.5

    def build(self, context: LearnerContext) -> DerppLearner:
        return DerppLearner(
            context.model,
            memory=self.memory(context.seed),
            memory_batch_size=self.memory_batch_size,
            **self.softmax,
            weights=(self.alpha, self.beta),
        )


class DerppLearner(RehearsalLearner):
    """``past``: (held, C) logits of the memory's slots, NaN for classes not exposed then."""

    def __init__(self, model: Classifier, *, weights: tuple[float, float], **options: Any) -> None:
        super().__init__(model, **options)
        self.alpha, self.beta = weights
        classes = model.head.out_features
        self.past = torch.empty(0, classes)
        self._newest = torch.empty(0, classes)

    def draw(self) -> Tensor:
        return torch.cat([super().draw(), super().draw()])

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        raw, exposed, size = self.classifier.raw(both), self.classifier.exposed, len(batch)
        logits = self.training_logits(self.classifier.mask(raw), both.labels)
        value = classification_loss(logits[:size], batch.labels, exposed)
        terms = self.terms(both.labels)
        if memory_batch is not None:
            half = size + len(memory_batch) // 2
            terms["logit_replay"] = self._distance(raw[size:half], both.indices[size:half])
            terms["label_replay"] = classification_loss(logits[half:], both.labels[half:], exposed)
            value = value + self.alpha * terms["logit_replay"] + self.beta * terms["label_replay"]
        self._newest = raw[:size].detach().masked_fill(~exposed, float("nan"))
        return Loss(value, terms, outputs=logits[:size])

    def _distance(self, now: Tensor, rows: Tensor) -> Tensor:
        """Mean squared error to the stored logits of memory rows, over the cells stored."""
        assert self.memory is not None
        held = self.memory.indices
        order = held.argsort()
        slots = order[torch.searchsorted(held[order], rows.cpu())]
        past = self.past[slots].to(now.device)
        known = ~past.isnan()
        error = torch.where(known, now - past.nan_to_num(0.0), 0.0)
        return error.square().sum() / known.sum().clamp(min=1)

    def observe(self, batch: Batch) -> None:
        assert self.memory is not None
        rows = torch.cat([self.memory.indices, batch.indices.cpu()])
        logits = torch.cat([self.past, self._newest.cpu()])
        super().observe(batch)
        order = rows.argsort()
        self.past = logits[order[torch.searchsorted(rows[order], self.memory.indices)]]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "past": self.past}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.past = state["past"].clone()
