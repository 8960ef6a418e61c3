"""Online experience replay (Chaudhry et al. 2019): cross-entropy on stream and memory together.

As ``replay``, but the memory is fed recording by recording, so no border of an experience is used;
this is the ER of online streams. A memory of 0 is fine-tuning.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from continual.classifier_learner import RehearsalLearner, SoftmaxConfig
from continual.learner import LEARNERS, LearnerContext
from continual.rehearsal import Memory, make_memory
from multimodal.errors import UserError


class RehearsalConfig(SoftmaxConfig):
    """memory_size: recordings. memory_batch_size: drawn beside every stream batch."""

    memory_size: Annotated[int, Field(ge=1)] = 500
    memory_batch_size: Annotated[int, Field(ge=1)] = 32

    def memory(self, seed: int, policy: str = "reservoir") -> Memory:
        return make_memory(policy, self.memory_size, seed)

    def refuse_small_memory(self, classes: int) -> None:
        """UserError unless the memory has room for a recording of every class."""
        if self.memory_size < classes:
            raise UserError(
                f"learner {self.registered_name}, memory_size={self.memory_size}: it keeps at "
                f"least one recording of each of the {classes} classes; give {classes} or more."
            )


@LEARNERS.register("er")
class ErConfig(RehearsalConfig):
    """policy: which recordings the memory keeps."""

    policy: Literal["reservoir", "class_balanced"] = "reservoir"

    def build(self, context: LearnerContext) -> RehearsalLearner:
        if self.policy == "class_balanced":
            self.refuse_small_memory(context.model.head.out_features)
        return RehearsalLearner(
            context.model,
            memory=self.memory(context.seed, self.policy),
            memory_batch_size=self.memory_batch_size,
            **self.softmax,
        )
