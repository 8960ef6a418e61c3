"""Joint training: one training experience on the whole stream, the usual upper bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from continual.learners import LEARNERS, ClassifierLearner, LearnerConfig, LearnerContext


@LEARNERS.register("joint")
class JointConfig(LearnerConfig):
    """No options of its own; its accuracy matrix has a single row."""

    def build(self, context: LearnerContext) -> JointLearner:
        return JointLearner(context.model)


class JointLearner(ClassifierLearner):
    def plan(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate(rows)]
