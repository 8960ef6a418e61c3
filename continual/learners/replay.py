"""Experience replay (Chaudhry et al. 2019): cross-entropy on stream and memory together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from continual.classifier import Classifier
from continual.classifier_learner import ClassifierLearner, SoftmaxConfig
from continual.learner import LEARNERS, ExperienceInfo, LearnerContext, embed
from continual.rehearsal import Memory, make_memory
from multimodal.errors import UserError


@LEARNERS.register("replay")
class ReplayConfig(SoftmaxConfig):
    """memory_size: recordings. memory_batch_size: drawn beside every stream batch."""

    memory_size: Annotated[int, Field(ge=1)] = 200
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    policy: Literal["reservoir", "class_balanced", "herding"] = "class_balanced"

    def build(self, context: LearnerContext) -> ReplayLearner:
        # Multi-label recordings without a label are a class of their own to a memory.
        classes = context.model.head.out_features + context.model.multi_label
        if self.policy == "herding" and self.memory_size < classes:
            raise UserError(
                f"memory_size={self.memory_size}: herding keeps at least one recording of each of "
                f"the {classes} classes; give {classes} or more."
            )
        memory = make_memory(self.policy, self.memory_size, context.seed)
        return ReplayLearner(
            context.model,
            memory=memory,
            memory_batch_size=self.memory_batch_size,
            batch_class_mask=self.batch_class_mask,
            seed=context.seed,
        )


class ReplayLearner(ClassifierLearner):
    """The memory holds past experiences only: it is filled when an experience ends.

    Recordings are offered in a random order (seed, experience): a manifest is sorted, so in its
    own order a class-balanced memory would keep the last speaker of each class.
    """

    online = "no"

    def __init__(self, model: Classifier, *, memory: Memory, seed: int, **options: Any) -> None:
        super().__init__(model, memory=memory, **options)
        self.seed = seed

    def end_experience(self, info: ExperienceInfo) -> None:
        assert self.memory is not None
        order = np.random.default_rng([self.seed, info.index]).permutation(len(info.rows))
        features = None
        if self.memory.needs_features:
            features = embed(self.classifier, info)[torch.as_tensor(order)]
        self.memory.update(info.rows[order], info.labels[order], features)
