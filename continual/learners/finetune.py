"""Fine-tuning: plain cross-entropy on the current experience, the lower bound."""

from __future__ import annotations

from continual.learners import LEARNERS, ClassifierLearner, LearnerConfig, LearnerContext


@LEARNERS.register("finetune")
class FinetuneConfig(LearnerConfig):
    """No options of its own."""

    def build(self, context: LearnerContext) -> ClassifierLearner:
        return ClassifierLearner(context.model)
