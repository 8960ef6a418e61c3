"""What learners with a teacher share: when it is taken, and what it said of the memory, kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from continual.learner import ExperienceInfo, Learner
from continual.recall import Recollection
from continual.teacher import TaughtConfig, Teacher
from multimodal.batch import Batch


class Taught(Learner):
    """Stands before a learner's own base: ``class Mine(Taught, SpokenLearner)``.

    ``task``: how many experiences have ended. ``stored``: what ``say`` made of the memory's
    recordings at an experience's end, if the term of ``kd_stored`` is on. ``_kept``: what a method
    keeps for one experience. ``_online`` is of the base.
    """

    uses_borders = True
    config: Any
    _online: bool

    def be_taught(self, model: nn.Module, config: TaughtConfig) -> None:
        """At the end of ``__init__``."""
        self.teacher, self.task = Teacher(model, config.teacher, decay=config.ema_decay), 0
        self.stored: Recollection | None = None
        self._kept: Recollection | None = None
        if config.kd_stored in config.distils:
            self.needs_borders = (
                f"{config.kd_stored} distils what the teacher said at an experience's end; set it "
                "to 0"
            )

    def say(self, batch: Batch) -> dict[str, Tensor]:
        """What the teacher says of N recordings of the memory, as tensors (N, ...) by name."""
        raise NotImplementedError

    def after_step(self) -> None:
        self.teacher.after_step()

    def observe(self, batch: Batch) -> None:
        super().observe(batch)
        self.teacher.observe(len(batch))

    def end_experience(self, info: ExperienceInfo) -> None:
        super().end_experience(info)
        self.teacher.end_experience()
        self.task, self._kept = self.task + 1, None
        stores = self.config.kd_stored in self.config.distils
        if stores and self.memory is not None and self.task < info.count:
            assert self.read is not None
            self.stored = Recollection.made(self.memory.indices, self.read, self.say)

    def state_dict(self) -> dict[str, Any]:
        own = {"teacher": self.teacher.state_dict(), "task": self.task, "online": self._online}
        stored = None if self.stored is None else self.stored.state_dict()
        return {**super().state_dict(), **own, "stored": stored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.teacher.load_state_dict(state["teacher"])
        self.task, self._online, self._kept = state["task"], state["online"], None
        stored, device = state["stored"], next(self.model.parameters()).device
        self.stored = None if stored is None else Recollection.from_state(stored, device)
