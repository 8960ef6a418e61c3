"""Online experience replay (Chaudhry et al. 2019): cross-entropy on stream and memory together.

As ``replay``, but the memory is fed recording by recording, so no border of an experience is used;
this is the ER of online streams. A memory of 0 is fine-tuning.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from continual.learners import LEARNERS, LearnerContext, RehearsalLearner, SoftmaxConfig
from continual.rehearsal import Memory, make_memory


class RehearsalConfig(SoftmaxConfig):
    """memory_size: recordings. memory_batch_size: drawn beside every stream batch."""

    memory_size: Annotated[int, Field(ge=1)] = 500
    memory_batch_size: Annotated[int, Field(ge=1)] = 32

    def memory(self, seed: int, policy: str = "reservoir") -> Memory:
        return make_memory(policy, self.memory_size, seed)


@LEARNERS.register("er")
class ErConfig(RehearsalConfig):
    """policy: which recordings the memory keeps."""

    policy: Literal["reservoir", "class_balanced"] = "reservoir"

    def build(self, context: LearnerContext) -> RehearsalLearner:
        return RehearsalLearner(
            context.model,
            memory=self.memory(context.seed, self.policy),
            memory_batch_size=self.memory_batch_size,
            batch_class_mask=self.batch_class_mask,
        )
