"""Experience replay (Chaudhry et al. 2019): cross-entropy on stream and memory together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from continual.learners import (
    LEARNERS,
    ClassifierLearner,
    ExperienceInfo,
    LearnerConfig,
    LearnerContext,
    remember,
)
from continual.rehearsal import Memory, make_memory


@LEARNERS.register("replay")
class ReplayConfig(LearnerConfig):
    """memory_size: recordings. memory_batch_size: drawn beside every stream batch."""

    memory_size: Annotated[int, Field(ge=1)] = 200
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    policy: Literal["reservoir", "class_balanced", "herding"] = "class_balanced"

    def build(self, context: LearnerContext) -> ReplayLearner:
        learner = ReplayLearner(context.model)
        learner.memory = make_memory(self.policy, self.memory_size, context.seed)
        learner.memory_batch_size = self.memory_batch_size
        return learner


class ReplayLearner(ClassifierLearner):
    """The memory holds past experiences only: it is filled when an experience ends."""

    memory: Memory

    def end_experience(self, info: ExperienceInfo) -> None:
        remember(self.memory, info, self.model)
