"""Continual learners: one method a file.

A registered learner config's ``build(context) -> Learner`` makes the method from plain parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.rehearsal import Memory
from multimodal.batch import Batch
from multimodal.objectives import Loss
from multimodal.objectives.classification import classification_loss
from multimodal.registry import Config, Registry

LEARNERS = Registry("learner", "continual.learners")


@dataclass(frozen=True)
class LearnerContext:
    """What a learner is built from.

    model: the encoder with its classification head, freshly initialised. seed: of the run.
    class_names: C names. modality: registered name. texts: of every manifest row, or None.
    cache_folder: for embeddings of texts; None: in memory.
    """

    model: Classifier
    seed: int
    class_names: tuple[str, ...] = ()
    modality: str = ""
    texts: tuple[str, ...] | None = None
    cache_folder: Path | None = None


@dataclass(frozen=True)
class ExperienceInfo:
    """What a learner may know of the experience it trains on.

    index, count: position in the training stream. classes: ids met in it. exposed: ids met so
    far, this experience included. rows, labels: (N,) its training recordings, labels as in
    ``Manifest.labels`` (-1 where a multi-label recording has none). targets: (N, C) of
    multi-label data, NaN where unknown, else None. batches: iterates over the recordings in that
    order, without shuffling, on the training device.
    """

    index: int
    count: int
    classes: tuple[int, ...]
    exposed: tuple[int, ...]
    rows: np.ndarray
    labels: np.ndarray
    targets: np.ndarray | None
    batches: Callable[[], Iterator[Batch]]


@dataclass(frozen=True)
class Prediction:
    """labels: (N,) int64 class ids, or (N, C) bool for multi-label data.

    scores: (N, C), -inf for classes not exposed, or None (multi-label data needs them). texts: N
    decoded texts, or None.
    """

    labels: Tensor
    scores: Tensor | None = None
    texts: tuple[str, ...] | None = None


class LearnerConfig(Config):
    """Base of every learner's config. epochs: None follows ``training.epochs``."""

    epochs: Annotated[int, Field(ge=1)] | None = None

    def build(self, context: LearnerContext) -> Learner:
        raise NotImplementedError


class Learner:
    """Hooks around one model; a method overrides only those it needs.

    model: ``model(batch) -> logits (N, C)``; the strategy optimises those of its parameters that
    require a gradient. memory: rehearsal memory of manifest rows, or None; from it the strategy
    draws ``memory_batch_size`` rows beside every stream batch. trains: False if there is nothing
    to optimise.
    """

    trains: bool = True

    def __init__(
        self, model: nn.Module, *, memory: Memory | None = None, memory_batch_size: int = 0
    ) -> None:
        self.model, self.memory, self.memory_batch_size = model, memory, memory_batch_size

    def plan(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Training rows of each experience of the stream -> of each training experience."""
        return list(rows)

    def begin_experience(self, info: ExperienceInfo) -> None:
        """Before the first step on an experience."""

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        """The loss of one step; ``memory_batch`` is None while the memory is empty."""
        raise NotImplementedError

    def observe(self, batch: Batch) -> None:
        """After the step in which a stream recording is seen for the first time."""

    def end_experience(self, info: ExperienceInfo) -> None:
        """After the last step on an experience."""

    def predict(self, batch: Batch) -> Prediction:
        """Called without gradients, in evaluation mode."""
        raise NotImplementedError

    def score_all(self, batch: Batch) -> Tensor | None:
        """(N, C) scores of all classes, also those not exposed, or None if it cannot name those."""
        return None

    def weights(self) -> dict[str, Tensor]:
        """What of the model is worth keeping in a file."""
        return self.model.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes: tensors and plain values only."""
        memory = None if self.memory is None else self.memory.state_dict()
        return {"model": self.weights(), "memory": memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])


class ClassifierLearner(Learner):
    """Classifier whose classes are exposed as experiences begin.

    Softmax and cross-entropy over the exposed classes; for multi-label data a sigmoid and binary
    cross-entropy a class, with unknown labels and classes not yet exposed masked.
    """

    def __init__(
        self, model: Classifier, *, memory: Memory | None = None, memory_batch_size: int = 0
    ) -> None:
        super().__init__(model, memory=memory, memory_batch_size=memory_batch_size)
        self.classifier = model

    def begin_experience(self, info: ExperienceInfo) -> None:
        self.classifier.expose(info.exposed)

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        """``classification_loss``, the mean over stream and memory recordings alike."""
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        logits = self.model(both)
        value = classification_loss(logits, both.labels, self.classifier.exposed)
        return Loss(value, {}, outputs=logits[: len(batch)])

    def predict(self, batch: Batch) -> Prediction:
        scores = self.model(batch)
        return Prediction(scores > 0 if self.classifier.multi_label else scores.argmax(1), scores)


@torch.no_grad()
def embed(model: Any, info: ExperienceInfo) -> Tensor:
    """(N, D) pooled embeddings of an experience's training recordings, in evaluation mode."""
    training = model.training
    model.eval()
    pooled = [model.embed(batch).cpu() for batch in info.batches()]
    model.train(training)
    return torch.cat(pooled)
