"""DeGLA's self-distillation in a stream: a text-aligned learner is held close to what it was.

Hu et al., "Decoupled Global-Local Alignment", ACM MM 2025, arXiv:2504.16801. Beside whatever
objective a learner has::

    L = L_objective + weight KD,   KD = mean over signals and texts of ||x - xbar||^2

x of length 1; a bar: a teacher's, the running mean of the student's trained weights by ``decay`` a
step, which is the student itself when it is taken. So KD is 0 in the first step (without dropout,
which the teacher has not). decay=1: the teacher stays what it was; decay=0: KD is 0 throughout.

The mean is that of ``multimodal/objectives/degla.py``, so is its weight of 7.68. Where nothing of
the text side is trained (``text`` frozen, ``width`` None) it is over signals alone: a text that
cannot move would only halve it. The paper distils rewritten captions too, and contrasts them (IGC,
TGC): learners have none of a recording; those of ``compa`` are of scenes, and are not distilled.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from continual.classifier_learner import told
from continual.learner import ExperienceInfo
from continual.teacher import Teacher
from continual.text_aligned import TextAlignedConfig, TextAlignedLearner
from multimodal.batch import Batch
from multimodal.objectives import Loss
from multimodal.objectives.degla import close
from multimodal.objectives.views import TEXT, Views
from multimodal.registry import Config


class DeglaConfig(Config):
    """weight: of KD. decay: of the running mean, a step; 1: none, the teacher stays. start: when
    the student becomes its own teacher, before the stream, or before each experience anew.
    """

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 7.68
    decay: Annotated[float, Field(ge=0, le=1)] = 0.9996
    start: Literal["stream", "experience"] = "stream"


class HeldConfig(TextAlignedConfig):
    """Of text-aligned learners that can be held. degla: None: they are not."""

    degla: DeglaConfig | None = Field(default=None, exclude_if=lambda degla: degla is None)

    @model_validator(mode="after")
    def _refuse_whitened(self) -> Self:
        if self.degla is not None and self.head.whiten:
            raise ValueError(
                "degla: with head.whiten the meaning of every weight changes as the stream is met, "
                "so there is no earlier self to be held to; leave one of the two out"
            )
        return self

    @property
    def row_name(self) -> str:
        if self.degla is None:
            return super().row_name
        return f"{super().row_name}, DeGLA{told(self.degla)}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "degla")


class Held(TextAlignedLearner):
    """A learner's ``loss`` passes what it made through ``held``. teacher: None: nothing is done."""

    teacher: Teacher | None = None

    def be_held(self, degla: DeglaConfig | None) -> Self:
        """After ``__init__``."""
        if degla is not None:
            self.degla, self.teacher = degla, Teacher(self.model, "ema", decay=degla.decay)
            if degla.start == "experience":
                self.needs_borders = (
                    "degla.start=experience takes the teacher where an experience begins; set it "
                    "to stream"
                )
        return self

    def held(self, loss: Loss, batch: Batch, views: Views) -> Loss:
        """``loss`` with weight KD added, and KD as term ``distillation``.

        views: those of ``batch``, stream and memory recordings, as the student sees them.
        """
        if self.teacher is None:
            return loss
        name, both = self.model.modality, views.embeddings
        names = (name, TEXT) if self._text_moves else (name,)
        old = self._remembered(batch, text=self._text_moves)
        term = close(torch.cat([both[n] for n in names]), torch.cat(old)).value
        terms = {**loss.terms, "distillation": term.detach()}
        return Loss(loss.value + self.degla.weight * term, terms, outputs=loss.outputs)

    @property
    def _text_moves(self) -> bool:
        return any(p.requires_grad for p in self.model.aligned.text.parameters())

    @torch.no_grad()
    def _remembered(self, batch: Batch, *, text: bool) -> list[Tensor]:
        assert self.teacher is not None
        old = self.teacher.model
        found = [old.aligned.embed_signals(batch)]
        if text:
            found.append(old.aligned.text.projection(self._texts(batch, old)[0]))
        return found

    def _take(self, *, anew: bool = False) -> None:
        if self.teacher is not None and (anew or self.teacher.model is None):
            self.teacher.take()

    def begin_experience(self, info: ExperienceInfo) -> None:
        super().begin_experience(info)
        self._take(anew=self.teacher is not None and self.degla.start == "experience")

    def meet(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        super().meet(rows, labels)
        self._take()

    def after_step(self) -> None:
        super().after_step()
        if self.teacher is not None:
            self.teacher.after_step()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self.teacher is None else {**state, "teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
