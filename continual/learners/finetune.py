"""Fine-tuning: plain cross-entropy on the current experience, the lower bound."""

from __future__ import annotations

from continual.classifier_learner import ClassifierLearner, SoftmaxConfig, train_encoder
from continual.learner import LEARNERS, LearnerContext
from continual.merged import Merges, MergingConfig


@LEARNERS.register("finetune")
class FinetuneConfig(MergingConfig, SoftmaxConfig):
    """train_encoder: train the encoder too where ``encoder.train`` leaves it as it is. merge: of
    the weights at each experience's end, see ``continual/merged.py``.
    """

    train_encoder: bool = False

    def build(self, context: LearnerContext) -> FinetuneLearner:
        if self.train_encoder:
            train_encoder(context.model)
        learner = FinetuneLearner(context.model, **self.softmax)
        return learner.merge_at_borders(self.merge)


class FinetuneLearner(Merges, ClassifierLearner):
    """Nothing of its own."""
