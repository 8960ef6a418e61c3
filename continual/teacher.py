"""A learner's earlier self, frozen: of a task's end, of some recordings ago, or a running mean.

Published methods that distil copy the model when a task ends. A stream without borders has no such
moment: there the copy is taken every N recordings, or is a running mean of what is trained. Neither
of these two is the published method of anybody who wrote of tasks.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from multimodal.weights import trained_weights

TeacherKind = Literal["task", "ema"] | Annotated[int, Field(ge=1)]


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
