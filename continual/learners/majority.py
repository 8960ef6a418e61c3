"""Majority class: always answers the class met most often so far; nothing is trained.

On multi-label data every class scores its share of the training recordings, whatever the input.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from continual.learner import (
    LEARNERS,
    ExperienceInfo,
    Learner,
    LearnerConfig,
    LearnerContext,
    Prediction,
)
from multimodal.batch import Batch


@LEARNERS.register("majority")
class MajorityConfig(LearnerConfig):
    """No options of its own. Of equally frequent classes the one with the lowest id wins."""

    def build(self, context: LearnerContext) -> MajorityLearner:
        return MajorityLearner(context)


class MajorityLearner(Learner):
    trains = False
    reads = False

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context.model)
        self.multi_label = context.model.multi_label
        # Of each class: recordings that have it, and recordings of which it is known.
        self.counts = torch.zeros(2, context.model.head.out_features, dtype=torch.int64)

    def end_experience(self, info: ExperienceInfo) -> None:
        if info.targets is None:
            self._count(torch.as_tensor(info.labels))
            return
        targets = torch.as_tensor(info.targets)[:, list(info.exposed)]
        self.counts[0, list(info.exposed)] += (targets == 1).sum(0)
        self.counts[1, list(info.exposed)] += (~targets.isnan()).sum(0)

    def observe(self, batch: Batch) -> None:
        labels = batch.labels.cpu()
        if not self.multi_label:
            self._count(labels)
            return
        self.counts[0] += (labels == 1).sum(0)
        self.counts[1] += (~labels.isnan()).sum(0)

    def _count(self, labels: torch.Tensor) -> None:
        self.counts[0] += torch.bincount(labels, minlength=self.counts.shape[1])

    def predict(self, batch: Batch) -> Prediction:
        if self.multi_label:
            shares = self.counts[0] / self.counts[1].clamp(min=1)
            scores = shares.to(batch.labels.device).expand(len(batch), -1)
            return Prediction(scores > 0.5, scores)
        answer = int(self.counts[0].argmax())
        return Prediction(torch.full((len(batch),), answer, device=batch.labels.device))

    def probabilities(self, batch: Batch, prediction: Prediction) -> Float[Tensor, "batch classes"]:
        """The share of each class among what was met."""
        if prediction.scores is not None:
            return prediction.scores.float()
        shares = self.counts[0] / self.counts[0].sum().clamp(min=1)
        return shares.to(batch.labels.device).expand(len(batch), -1)

    def weights(self) -> dict[str, Tensor]:
        return {"counts": self.counts}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.counts.copy_(weights["counts"])

    def state_dict(self) -> dict[str, Any]:
        return self.weights()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.load_weights(state)
