"""The contract of a continual learner: hooks around one model.

A registered learner config's ``build(context) -> Learner`` makes the method from plain parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.rehearsal import Memory
from multimodal.batch import Batch
from multimodal.encoders.lora import LoraEncoder
from multimodal.objectives import Loss
from multimodal.registry import Config, Registry

LEARNERS = Registry("learner", "continual.learners")


@dataclass(frozen=True)
class LearnerContext:
    """What a learner is built from.

    model: the encoder with its classification head, freshly initialised. seed: of the run.
    class_names: C names. modality: registered name. texts: of every manifest row, or None.
    cache_folder: for embeddings of texts; None: in memory. trains: False if it shall only predict,
    so that ``texts`` are not needed. groups: of every manifest row, "" where unknown, or None.
    slots: of every manifest row, (type, value) pairs, or None.
    """

    model: Classifier
    seed: int
    class_names: tuple[str, ...] = ()
    modality: str = ""
    texts: tuple[str, ...] | None = None
    cache_folder: Path | None = None
    trains: bool = True
    groups: Sequence[str] | None = None
    slots: Sequence[Sequence[tuple[str, str]]] | None = None


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
    """labels: (N,) int64 class ids, -1 where a decoded text names none, or (N, C) bool for
    multi-label data.

    scores: (N, C), -inf for classes not exposed, or None (multi-label data needs them). texts: N
    decoded texts, or None.
    """

    labels: Tensor
    scores: Tensor | None = None
    texts: tuple[str, ...] | None = None


class FrozenTower(NamedTuple):
    """Front end and encoder whose outputs never change, so that they may be computed once.

    beside: batches need them beside the signals (queries of prompts), not in their place.
    """

    front_end: nn.Module
    encoder: nn.Module
    beside: bool = False


Kind = Literal["online", "offline", "joint"]


class LearnerConfig(Config):
    """Base of every learner's config. epochs: None follows ``training.epochs``.

    kind: that of the learner it builds. needs_all_labels: it cannot use a recording some of whose
    labels are unknown. reads_signals: it does more with ``Batch.inputs`` than give them to the
    model's front end; batches then hold signals, where else caches may have prepared features.
    """

    kind: ClassVar[Kind] = "online"
    needs_all_labels: ClassVar[bool] = False
    reads_signals: ClassVar[bool] = False

    epochs: Annotated[int, Field(ge=1)] | None = None

    @property
    def needs_texts(self) -> bool:
        """Every recording that is trained on must have a text of its own."""
        return False

    @property
    def uses_texts(self) -> bool:
        """The same, where any recording of the dataset has one."""
        return False

    @model_validator(mode="before")
    @classmethod
    def _refuse_head(cls, data: Any) -> Any:
        if isinstance(data, dict) and "head" in data and "head" not in cls.model_fields:
            raise ValueError(
                f"learner {cls.registered_name!r} trains no linear head to whiten; leave head out"
            )
        return data

    def build(self, context: LearnerContext) -> Learner:
        raise NotImplementedError


class Learner:
    """Hooks around one model; a method overrides only those it needs.

    model: ``model(batch) -> logits (N, C)``; the strategy optimises those of its parameters that
    require a gradient. memory: rehearsal memory of manifest rows, or None; from it the strategy
    draws ``memory_batch_size`` rows beside every stream batch. read: manifest rows -> their Batch
    without augmentation; augment: random changes of a Batch, or None; both set by the strategy.

    trains: False if there is nothing to optimise. reads: False if it never looks at a signal.
    kind: "offline" for learners that must come back to a recording; "joint" for the upper bound,
    that trains on a whole stream at once, also on an online one. uses_borders: it is told where the
    tasks of an online stream end. needs_borders: what it cannot do where it is not told, in words.
    memory_epochs: epochs over its memory after each task of an
    online stream, at ``review_rate``. rate: factor of the learning rate of the next step.
    """

    trains: ClassVar[bool] = True
    reads: ClassVar[bool] = True
    kind: ClassVar[Kind] = "online"
    uses_borders: bool = False
    needs_borders: str = ""
    memory_epochs: int = 0
    rate: float = 1.0

    def __init__(
        self, model: nn.Module, *, memory: Memory | None = None, memory_batch_size: int = 0
    ) -> None:
        self.model, self.memory, self.memory_batch_size = model, memory, memory_batch_size
        self.read: Callable[[Tensor], Batch] | None = None
        self.augment: Callable[[Batch], Batch] | None = None

    def plan(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Training rows of each experience of the stream -> of each training experience."""
        return list(rows)

    def begin_experience(self, info: ExperienceInfo) -> None:
        """Before the first step on an experience (never in an online stream)."""

    def meet(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        """Online: before the first step on a stream batch, of these manifest rows and labels."""

    def arrive(self, batch: Batch) -> None:
        """Before the first step on stream recordings that were never met: each comes here once."""

    def take_in(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        """Before the first step on recordings, and before its draw; ``observe`` comes after it.

        For memories that are trained from alone. Online: after ``meet``.
        """

    def draw(self) -> Int[Tensor, " drawn"]:
        """Memory rows for the next step."""
        assert self.memory is not None
        return self.memory.sample(self.memory_batch_size)

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        """The loss of one step; ``memory_batch`` is None while the memory is empty."""
        raise NotImplementedError

    def after_backward(self) -> None:
        """Between ``backward`` and the optimiser's step."""

    def after_step(self) -> None:
        """After the optimiser's step."""

    def observe(self, batch: Batch) -> None:
        """After the step in which a stream recording is seen for the first time.

        Online: after the last step on its batch, and without any where ``trains`` is False.
        """

    def end_experience(self, info: ExperienceInfo) -> None:
        """After the last step on an experience (online: only if ``uses_borders``)."""

    def review_rate(self, epoch: int) -> float:
        """Factor of the learning rate in an epoch (from 0) of ``memory_epochs``."""
        return 1.0

    def predict(self, batch: Batch) -> Prediction:
        """Called without gradients, in evaluation mode."""
        raise NotImplementedError

    def score_all(self, batch: Batch) -> Float[Tensor, "batch classes"] | None:
        """(N, C) scores of all classes, also those not exposed, or None if it cannot name those."""
        return None

    def tower(self) -> FrozenTower | None:
        """Front end and encoder, frozen or not, whose embeddings alone make the scores: ``predict``
        reads a batch that brings them in the place of its signals. None: there is no such.
        """
        front_end = getattr(self.model, "front_end", None)
        if front_end is None or not self.reads:
            return None
        return FrozenTower(front_end, self.model.encoder)  # pyright: ignore[reportArgumentType]

    def frozen_tower(self) -> FrozenTower | None:
        """What of the model may be computed once a recording, if it is frozen."""
        return None

    def probabilities(self, batch: Batch, prediction: Prediction) -> Float[Tensor, "batch classes"]:
        """(N, C) in [0, 1], float32, of what ``predict`` said of the batch; 0 if not exposed.

        A softmax over its scores; of multi-label data a sigmoid for each class.
        """
        assert prediction.scores is not None
        scores = prediction.scores.float()
        return scores.sigmoid() if prediction.labels.ndim == 2 else scores.softmax(1)

    def weights(self) -> dict[str, Tensor]:
        """What of the model is worth keeping in a file: all that ``predict`` needs.

        Of an encoder with LoRA that is the adapter: its base is what the config names.
        """
        return without_bases(self.model)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take up what ``weights`` gave; the rest of the model is as it was built."""
        state, kept = self.model.state_dict(), without_bases(self.model)
        built = {name: tensor for name, tensor in state.items() if name not in kept}
        self.model.load_state_dict({**built, **weights})

    def parameters(self) -> dict[str, int]:
        """Numbers of parameters: of the whole model, those that are trained, and what its file
        keeps (``weights``, buffers and counters included).
        """
        every = list(self.model.parameters()) if self.reads else []
        return {
            "total": sum(p.numel() for p in every),
            "trained": sum(p.numel() for p in every if p.requires_grad and self.trains),
            "stored": sum(t.numel() for t in self.weights().values()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes: tensors and plain values only."""
        memory = None if self.memory is None else self.memory.state_dict()
        return {"model": self.weights(), "memory": memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.load_weights(state["model"])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])


def without_bases(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model, without what LoRA leaves as it was in the encoders that it adapts."""
    frozen = {
        f"{place}.{name}" if place else name
        for place, part in model.named_modules()
        if isinstance(part, LoraEncoder)
        for name, parameter in part.named_parameters()
        if not parameter.requires_grad
    }
    return {name: t for name, t in model.state_dict().items() if name not in frozen}
