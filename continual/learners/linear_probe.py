"""Linear probe: the encoder stays as it was initialised (or loaded), only the head learns.

With the random ``compact`` encoder this is the "random encoder" row of a table: what can be
reached without learning any representation.
"""

from __future__ import annotations

from continual.classifier import Classifier
from continual.learners import LEARNERS, ClassifierLearner, LearnerConfig, LearnerContext


@LEARNERS.register("linear_probe")
class LinearProbeConfig(LearnerConfig):
    """No options of its own."""

    def build(self, context: LearnerContext) -> LinearProbeLearner:
        return LinearProbeLearner(context.model)


class LinearProbeLearner(ClassifierLearner):
    def __init__(self, model: Classifier) -> None:
        super().__init__(model)
        model.front_end.requires_grad_(False)
        model.encoder.requires_grad_(False)
