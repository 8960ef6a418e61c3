"""Linear probe: the encoder stays as it was initialised (or loaded), only the head learns.

With the random ``compact`` encoder this is the "random encoder" row of a table: what can be
reached without learning any representation.
"""

from __future__ import annotations

from continual.classifier_learner import ClassifierLearner, SoftmaxConfig, freeze_encoder
from continual.learner import LEARNERS, LearnerContext


@LEARNERS.register("linear_probe")
class LinearProbeConfig(SoftmaxConfig):
    """No options but ``batch_class_mask``."""

    def build(self, context: LearnerContext) -> ClassifierLearner:
        freeze_encoder(context.model)
        return ClassifierLearner(context.model, **self.softmax)
