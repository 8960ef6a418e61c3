"""A learner's earlier self, frozen: of a task's end, of some recordings ago, or a running mean.

Published methods that distil copy the model when a task ends. A stream without borders has no such
moment: there the copy is taken every N recordings, or is a running mean of what is trained. Neither
of these two is the published method of anybody who wrote of tasks.

``TaughtConfig`` is what learners with COCONUT's contrast have in common.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from multimodal.objectives.coconut import CoconutConfig
from multimodal.weights import trained_weights

TeacherKind = Literal["task", "ema"] | Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TaughtConfig(CoconutConfig):
    """COCONUT's contrast, and the teacher it is with. teacher: task, ema, or recordings between two
    copies. ema_decay: of the running mean, a step.

    kd_terms: names of the settings that are weights of distillation terms, all on rehearsal
    samples. kd_stored: the one of them whose targets are made, and kept, at an experience's end.
    """

    kd_terms: ClassVar[tuple[str, ...]] = ()
    kd_stored: ClassVar[str] = ""

    memory_size: Annotated[int, Field(ge=0)] = 0
    teacher: TeacherKind = "task"
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.999

    @property
    def distils(self) -> tuple[str, ...]:
        """The distillation terms that are switched on."""
        return tuple(name for name in self.kd_terms if getattr(self, name))

    @model_validator(mode="after")
    def _refuse_idle(self) -> Self:
        """Settings that change nothing, so that no two names are given to one experiment."""
        no_nspt, no_mm, distils = not self.nspt, not self.mm, self.distils
        for name in distils if not self.memory_size else ():
            raise ValueError(f"{name}={getattr(self, name)} distils on the memory; set memory_size")
        if self.kd_stored in distils and self.teacher != "task":
            raise ValueError(
                f"teacher={self.teacher}: {self.kd_stored} distils what a teacher of an "
                "experience's end said; set teacher: task"
            )
        self._refuse(no_nspt, "nspt=0", "nspt_variant", "anchor_scope")
        self._refuse(no_mm, "mm=0", "mm_temperature", "mm_scope", "mm_positive", "mm_tasks")
        self._refuse(no_nspt and no_mm, "nspt=0 and mm=0", "temperature", "overlap")
        asked = not no_nspt or distils
        self._refuse(not asked, "no term that asks a teacher", "teacher")
        self._refuse(self.teacher != "ema", f"teacher={self.teacher}", "ema_decay")
        return self

    def _refuse(self, idle: bool, why: str, *names: str) -> None:
        fields = type(self).model_fields
        for name in names if idle else ():
            value = getattr(self, name)
            if value != fields[name].default:
                raise ValueError(f"{name}={value} has no effect with {why}; leave it out")

    def row_of(self, whole: str, bare: str) -> str:
        """``whole`` with both contrastive terms, else ``bare`` and the one that is left, and the
        distillation terms.
        """
        kept = [name for name, weight in (("NSPT", self.nspt), ("MM", self.mm)) if weight]
        base = whole if len(kept) == 2 else " + ".join([bare, *kept])
        return " + ".join([base, *(f"{n.removesuffix('_kd')}-KD" for n in self.distils)])


class Teacher:
    """``model``: a copy of the student in evaluation mode that takes no gradient, None before there
    is one. It shares the student's frozen weights, so it costs what is trained, once.

    kind: "task"; "ema", a running mean by ``decay`` a step; or the number of recordings between two
    copies. The learner passes its hooks ``after_step``, ``observe`` and ``end_experience`` on.
    """

    def __init__(self, student: nn.Module, kind: TeacherKind, *, decay: float) -> None:
        self.student, self.kind, self.decay = student, kind, decay
        self.model: Any = None
        self.since = 0

    def take(self) -> None:
        """From now on the teacher is what the student is now."""
        shared = {id(p): p for p in self.student.parameters() if not p.requires_grad}
        self.model = copy.deepcopy(self.student, shared)
        self.model.eval().requires_grad_(False)

    @torch.no_grad()
    def after_step(self) -> None:
        if self.kind != "ema":
            return
        if self.model is None:
            self.take()
            return
        own = self.model.state_dict()
        for name, now in trained_weights(self.student).items():
            if now.is_floating_point():
                own[name].lerp_(now, 1 - self.decay)
            else:
                own[name].copy_(now)

    def observe(self, count: int) -> None:
        """count: recordings of the stream that were seen for the first time."""
        if isinstance(self.kind, int):
            self.since += count
            if self.since >= self.kind:
                self.since = 0
                self.take()

    def end_experience(self) -> None:
        if self.kind == "task":
            self.take()

    def state_dict(self) -> dict[str, Any]:
        """Of what the student trains; the frozen rest is the student's own."""
        weights = {}
        if self.model is not None:
            own = self.model.state_dict()
            weights = {name: own[name] for name in trained_weights(self.student)}
        return {"weights": weights, "since": self.since}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()`` of a teacher of the same student."""
        self.since, self.model = state["since"], None
        if state["weights"]:
            self.take()
            own = self.model.state_dict()
            for name, tensor in state["weights"].items():
                own[name].copy_(tensor)
