"""Joint training: one training experience on the whole stream, the usual upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from continual.classifier_learner import ClassifierLearner, SoftmaxConfig, train_encoder
from continual.learner import LEARNERS, Kind, LearnerContext


@LEARNERS.register("joint")
class JointConfig(SoftmaxConfig):
    """Its accuracy matrix has a single row. train_encoder: as of ``finetune``."""

    kind: ClassVar[Kind] = "joint"

    train_encoder: bool = False

    def build(self, context: LearnerContext) -> JointLearner:
        if self.train_encoder:
            train_encoder(context.model)
        return JointLearner(context.model, **self.softmax)


class JointLearner(ClassifierLearner):
    kind = "joint"

    def plan(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate(rows)]
