"""Experience replay (Chaudhry et al. 2019): cross-entropy on stream and memory together."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from continual.classifier import Classifier
from continual.classifier_learner import ClassifierLearner, SoftmaxConfig
from continual.learner import LEARNERS, ExperienceInfo, Kind, LearnerContext
from continual.recall import remember
from continual.rehearsal import Memory, make_memory


@LEARNERS.register("replay")
class ReplayConfig(SoftmaxConfig):
    """memory_size: recordings. memory_batch_size: drawn beside every stream batch."""

    kind: ClassVar[Kind] = "offline"

    memory_size: Annotated[int, Field(ge=1)] = 200
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    policy: Literal["reservoir", "class_balanced", "herding"] = "class_balanced"

    def build(self, context: LearnerContext) -> ReplayLearner:
        memory = make_memory(self.policy, self.memory_size, context.seed)
        return ReplayLearner(
            context.model,
            memory=memory,
            memory_batch_size=self.memory_batch_size,
            **self.softmax,
            seed=context.seed,
        )


class ReplayLearner(ClassifierLearner):
    """The memory holds past experiences only: it is filled when an experience ends."""

    kind = "offline"

    def __init__(self, model: Classifier, *, memory: Memory, seed: int, **options: Any) -> None:
        super().__init__(model, memory=memory, **options)
        self.seed = seed

    def end_experience(self, info: ExperienceInfo) -> None:
        assert self.memory is not None
        remember(self.memory, self.classifier, info, self.seed)
