"""Fine-tuning: plain cross-entropy on the current experience, the lower bound."""

from __future__ import annotations

from continual.classifier_learner import ClassifierLearner, SoftmaxConfig, train_encoder
from continual.learner import LEARNERS, LearnerContext


@LEARNERS.register("finetune")
class FinetuneConfig(SoftmaxConfig):
    """train_encoder: train the encoder too where ``encoder.train`` leaves it as it is."""

    train_encoder: bool = False

    def build(self, context: LearnerContext) -> ClassifierLearner:
        if self.train_encoder:
            train_encoder(context.model)
        return ClassifierLearner(context.model, **self.softmax)
