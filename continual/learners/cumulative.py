"""Cumulative training: each experience trains on everything met so far, without forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from continual.classifier_learner import ClassifierLearner, SoftmaxConfig
from continual.learner import LEARNERS, Kind, LearnerContext


@LEARNERS.register("cumulative")
class CumulativeConfig(SoftmaxConfig):
    """The model is carried on, not trained anew."""

    kind: ClassVar[Kind] = "offline"

    def build(self, context: LearnerContext) -> CumulativeLearner:
        return CumulativeLearner(context.model, **self.softmax)


class CumulativeLearner(ClassifierLearner):
    kind = "offline"

    def plan(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate(rows[: i + 1]) for i in range(len(rows))]
