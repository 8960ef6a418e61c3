"""EWC++ (Chaudhry et al. 2018, RWalk): a running Fisher diagonal holds what mattered before.

    F <- (1 - a) F + a g^2   a step (first step: F = g^2),   g: gradient of the cross-entropy
    L = CE + lambda sum_p F*_p (theta_p - theta*_p)^2

F* and theta* are copies of F and theta, made at a task's end (``task``) or every N recordings,
one slot that is overwritten; of the head, only rows of classes exposed then count. With a memory
it is ER with that penalty. One optimiser step an iteration (the release takes two), and the
penalty is over everything that is trained (in the release over nothing, where the encoder is
frozen). A whitened head's theta are weights on whitened inputs; theta* and F* are not carried over
when the whitening moves, which it does less and less.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from continual.classifier import Classifier
from continual.classifier_learner import RehearsalLearner, SoftmaxConfig
from continual.learner import LEARNERS, ExperienceInfo, LearnerContext
from continual.rehearsal import make_memory
from multimodal.batch import Batch
from multimodal.objectives import Loss


@LEARNERS.register("ewcpp")
class EwcppConfig(SoftmaxConfig):
    """strength: lambda. decay: a. refresh: task, or recordings between two copies. memory_size:
    recordings in a reservoir, 0 for none; memory_batch_size: drawn beside every stream batch.
    """

    strength: Annotated[float, Field(ge=0)] = 100.0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    refresh: Literal["task"] | Annotated[int, Field(ge=1)] = "task"
    memory_size: Annotated[int, Field(ge=0)] = 0
    memory_batch_size: Annotated[int, Field(ge=1)] = 32

    def build(self, context: LearnerContext) -> EwcppLearner:
        size = self.memory_size
        memory = make_memory("reservoir", size, context.seed) if size else None
        return EwcppLearner(context.model, self, memory=memory)


class EwcppLearner(RehearsalLearner):
    """``fisher``: F by parameter name; ``kept``, ``anchor``: F* and theta*, empty before a copy."""

    uses_borders = True

    def __init__(self, model: Classifier, config: EwcppConfig, **options: Any) -> None:
        options |= {"memory_batch_size": config.memory_batch_size}
        super().__init__(model, **config.softmax, **options)
        self.config, self.since = config, 0
        self.fisher: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        plain = super().loss(batch, memory_batch)
        if not self.kept:
            return plain
        penalty = sum(
            (self.kept[name] * (p - self.anchor[name]).square()).sum()
            for name, p in self._trained().items()
        )
        assert isinstance(penalty, Tensor)
        value = plain.value + self.config.strength * penalty
        return Loss(value, {**plain.terms, "penalty": penalty}, outputs=plain.outputs)

    @torch.no_grad()
    def after_backward(self) -> None:
        """The Fisher diagonal, without the part of the gradient that the penalty has."""
        for name, p in self._trained().items():
            if p.grad is None:
                continue
            gradient = p.grad
            if self.kept:
                pull = self.kept[name] * (p - self.anchor[name])
                gradient = gradient - 2 * self.config.strength * pull
            squared = gradient.square()
            old = self.fisher.get(name)
            self.fisher[name] = squared if old is None else old.lerp(squared, self.config.decay)

    def observe(self, batch: Batch) -> None:
        if self.memory is not None:
            super().observe(batch)
        if isinstance(self.config.refresh, int):
            self.since += len(batch)
            if self.since >= self.config.refresh:
                self.since = 0
                self._copy()

    def end_experience(self, info: ExperienceInfo) -> None:
        if self.config.refresh == "task":
            self._copy()

    @torch.no_grad()
    def _copy(self) -> None:
        self.anchor = {name: p.detach().clone() for name, p in self._trained().items()}
        zero = {name: torch.zeros_like(p) for name, p in self.anchor.items()}
        self.kept = {name: self.fisher.get(name, zero[name]).clone() for name in zero}
        hidden = ~self.classifier.exposed
        for name in ("head.weight", "head.bias"):
            self.kept[name][hidden] = 0.0

    def _trained(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def state_dict(self) -> dict[str, Any]:
        own = {"fisher": self.fisher, "kept": self.kept, "anchor": self.anchor}
        return {**super().state_dict(), **own, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        device = self.classifier.exposed.device
        for name in ("fisher", "kept", "anchor"):
            setattr(self, name, {k: v.to(device).clone() for k, v in state[name].items()})
        self.since = state["since"]
