"""LwF (Li & Hoiem 2016): the answers of an earlier self are kept by distillation.

    L = CE + w KD_T,   KD_T = -mean_i sum_c softmax(z_old / T)_c log softmax(z / T)_c

over the classes that were exposed when the teacher was frozen, without the factor T^2.
Multi-label data: the Bernoulli cross-entropy of each such class instead. The teacher is a copy of
what is trained: of a task's end (``task``), of every N-th recording (a number), or a running mean
(``ema``). A whitened head is taken over as the same function of raw embeddings, so a teacher, and
every head in a running mean, keeps the whitening of its time. The released online variant takes
the last batch as teacher, which regularises next to nothing, and distils classes that were never
exposed; neither is done here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from continual.classifier import Classifier
from continual.classifier_learner import ClassifierLearner, SoftmaxConfig
from continual.evaluation import evaluating
from continual.learner import LEARNERS, ExperienceInfo, LearnerContext
from multimodal.batch import Batch
from multimodal.objectives import Loss
from multimodal.objectives.distillation import answer_distillation


@LEARNERS.register("lwf")
class LwfConfig(SoftmaxConfig):
    """weight: w. temperature: T. teacher: task, ema, or recordings between two copies. ema_decay:
    of the running mean, a step.
    """

    weight: Annotated[float, Field(ge=0)] = 0.2
    temperature: Annotated[float, Field(gt=0)] = 2.0
    teacher: Literal["task", "ema"] | Annotated[int, Field(ge=1)] = "task"
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.999

    def build(self, context: LearnerContext) -> LwfLearner:
        return LwfLearner(context.model, self)


class LwfLearner(ClassifierLearner):
    """``old``: the teacher's parameters by name, empty before there is one; ``known``: (C,) bool,
    the classes it can name.
    """

    uses_borders = True

    def __init__(self, model: Classifier, config: LwfConfig) -> None:
        super().__init__(model, **config.softmax)
        self.config = config
        self.old: dict[str, Tensor] = {}
        self.known = torch.zeros_like(model.exposed)
        self.since = 0

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        plain = super().loss(batch, memory_batch)
        if not self.old:
            return plain
        with evaluating(self):
            past = functional_call(self.classifier, self.old, (batch,))
        assert plain.outputs is not None
        kept = answer_distillation(
            plain.outputs,
            past,
            self.known,
            multi_label=self.classifier.multi_label,
            temperature=self.config.temperature,
        )
        value = plain.value + self.config.weight * kept
        return Loss(value, {**plain.terms, "distillation": kept}, outputs=plain.outputs)

    def after_step(self) -> None:
        if self.config.teacher != "ema":
            return
        if not self.old:
            self._copy()
        for name, value in self._now().items():
            self.old[name].lerp_(value, 1 - self.config.ema_decay)
        self.known = self.classifier.exposed.clone()

    def observe(self, batch: Batch) -> None:
        if isinstance(self.config.teacher, int):
            self.since += len(batch)
            if self.since >= self.config.teacher:
                self.since = 0
                self._copy()

    def end_experience(self, info: ExperienceInfo) -> None:
        if self.config.teacher == "task":
            self._copy()

    def _copy(self) -> None:
        self.old = {name: value.clone() for name, value in self._now().items()}
        self.known = self.classifier.exposed.clone()

    def _now(self) -> dict[str, Tensor]:
        """What is trained, by name; of a whitened head, the head that reads raw embeddings."""
        own = {n: p.detach() for n, p in self.classifier.named_parameters() if p.requires_grad}
        white, head = self.classifier.whitening, self.classifier.head
        if white is not None:
            own["head.weight"], own["head.bias"] = white.folded(head.weight, head.bias)
            own["whitening.shift"] = torch.zeros_like(white.shift)
            own["whitening.matrix"] = torch.eye(len(white.shift)).to(white.matrix)
        return own

    def state_dict(self) -> dict[str, Any]:
        own = {"old": self.old, "known": self.known, "since": self.since}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.old = {k: v.to(self.known.device).clone() for k, v in state["old"].items()}
        self.known, self.since = state["known"].to(self.known.device).clone(), state["since"]
