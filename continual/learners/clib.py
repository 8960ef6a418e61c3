"""CLIB (Koh et al. 2022, i-Blurry): trained from its memory alone, which keeps what lowers losses.

A recording enters a full memory in place of the least important one of the largest class (itself
counted). Its importance starts at the mean of its class's (0 if it is the first of its class; if
that is in a full memory, the mean of all). After every ``importance_period``-th step the loss of
all the memory is taken, Delta is its mean change over recordings held since the last time, and for
the recordings U used since then

    I_U <- I_U - (1 - 0.9) (Delta - mean(I_U) / |U|)

a running mean of how much the memory's loss fell when a recording was used. Each time, the learning
rate hears of those losses too: see ``TwoRates``. In Si-Blurry's released code importance is never
updated.

It is an online method; in a stream of experiences a recording enters the memory once, before the
step that is its own in the first epoch, and later epochs are more steps on the memory.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from continual.classifier import Classifier
from continual.classifier_learner import ClassifierLearner, main_labels
from continual.evaluation import evaluating
from continual.learner import LEARNERS, LearnerContext
from continual.learners.er import RehearsalConfig
from continual.rates import TwoRates
from continual.rehearsal import Memory
from multimodal.batch import Batch
from multimodal.objectives import Loss
from multimodal.objectives.classification import classification_loss, recording_losses

MOMENTUM = 0.9
AT_ONCE = 256


@LEARNERS.register("clib")
class ClibConfig(RehearsalConfig):
    """importance_period: steps between two evaluations of the whole memory."""

    importance_period: Annotated[int, Field(ge=1)] = 1

    def build(self, context: LearnerContext) -> ClibLearner:
        self.refuse_small_memory(context.model.head.out_features)
        return ClibLearner(
            context.model,
            memory=ImportanceMemory(self.memory_size, context.seed),
            memory_batch_size=self.memory_batch_size,
            **self.softmax,
            importance_period=self.importance_period,
        )


class ImportanceMemory(Memory):
    """``importance``: (capacity,) of each slot. ``fresh``: slots written since ``settle``."""

    def __init__(self, capacity: int, seed: int) -> None:
        super().__init__(capacity, seed)
        self.importance = torch.zeros(capacity)
        self.fresh = torch.ones(capacity, dtype=torch.bool)

    def _write(self, indices: Tensor, labels: Tensor, features: Tensor | None) -> None:
        for row, label in zip(indices.tolist(), labels.tolist(), strict=True):
            size = self._size
            held, full = self._labels[:size], size == self.capacity
            same = held == label
            first = self.importance[:size].mean() if full and size else torch.tensor(0.0)
            slot = self._loser(label) if full else size
            others = same.clone()
            others[slot : slot + 1] = False
            start = self.importance[:size][others].mean() if others.any() else first
            self._indices[slot], self._labels[slot] = row, label
            self.importance[slot], self.fresh[slot] = start, True
            self._size = min(size + 1, self.capacity)

    def _loser(self, label: int) -> int:
        """The least important slot of the largest class, the new one's own counted with it."""
        classes, counts = self._labels.unique(return_counts=True)
        counts = counts + (classes == label)
        largest = classes[counts.argmax()]
        slots = (self._labels == largest).nonzero().squeeze(1)
        return int(slots[self.importance[slots].argmin()])

    def _extra(self) -> dict[str, Any]:
        return {"importance": self.importance.clone(), "fresh": self.fresh.clone()}

    def _load_extra(self, state: dict[str, Any]) -> None:
        self.importance, self.fresh = state["importance"].clone(), state["fresh"].clone()


class ClibLearner(ClassifierLearner):
    def __init__(self, model: Classifier, *, importance_period: int, **options: Any) -> None:
        super().__init__(model, **options)
        self.period, self.steps = importance_period, 0
        assert isinstance(self.memory, ImportanceMemory)
        self.losses = torch.zeros(self.memory.capacity)
        self.used = torch.empty(0, dtype=torch.int64)
        self.rates = TwoRates()

    def take_in(self, rows: Tensor, labels: Tensor) -> None:
        assert self.memory is not None
        several = self.classifier.multi_label
        self.memory.update(rows, main_labels(labels) if several else labels)

    def draw(self) -> Tensor:
        drawn = super().draw()
        self.used = torch.cat([self.used, drawn]).unique()
        return drawn

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        assert memory_batch is not None, "the batch itself was put into the memory"
        logits = self.model(memory_batch)
        masked = self.training_logits(logits, memory_batch.labels)
        value = classification_loss(masked, memory_batch.labels, self.classifier.exposed)
        return Loss(value, self.terms(memory_batch.labels), outputs=logits)

    def after_step(self) -> None:
        memory = self.memory
        assert isinstance(memory, ImportanceMemory)
        self.steps += 1
        if self.steps % self.period == 0:
            now, size = self._all_losses(), len(memory)
            old = ~memory.fresh[:size]
            if old.any():
                self._credit(float((now - self.losses[:size])[old].mean()))
            self.losses[:size], memory.fresh[:size] = now, False
            self.used = self.used[:0]
            self.rates.update(memory.indices, now)
            self.rate = self.rates.rate

    def _credit(self, change: float) -> None:
        memory = self.memory
        assert isinstance(memory, ImportanceMemory)
        slots = torch.isin(memory.indices, self.used).nonzero().squeeze(1)
        mean = memory.importance[slots].mean() / len(slots)
        memory.importance[slots] -= (1 - MOMENTUM) * (change - mean)

    def _all_losses(self) -> Tensor:
        """(held,) loss of every recording in the memory."""
        assert self.memory is not None
        assert self.read is not None
        found, exposed = [], self.classifier.exposed
        with evaluating(self):
            for rows in self.memory.indices.split(AT_ONCE):
                batch = self.read(rows)
                logits = self.model(batch)
                found.append(recording_losses(logits, batch.labels, exposed))
        return torch.cat(found).cpu()

    def state_dict(self) -> dict[str, Any]:
        own = {"losses": self.losses.clone(), "steps": self.steps, "used": self.used}
        return {**super().state_dict(), **own, "rates": self.rates.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A state of an earlier version, which warns, begins the search for the rate anew."""
        super().load_state_dict(state)
        self.losses, self.steps = state["losses"].clone(), state["steps"]
        self.used = state.get("used", self.used[:0])
        if "rates" in state:
            self.rates.load_state_dict(state["rates"])
        else:
            warnings.warn(
                "the clib run was begun by an earlier version, with another rule of the learning "
                "rate: the search for it begins anew. A fresh run has one rule throughout.",
                stacklevel=2,
            )
            self.rates = TwoRates(state["high"])
        self.rate = self.rates.rate
