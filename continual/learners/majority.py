"""Majority class: always answers the class met most often so far; nothing is trained."""

from __future__ import annotations

from typing import Any

import torch

from continual.learners import (
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

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context.model)
        self.counts = torch.zeros(context.model.head.out_features, dtype=torch.int64)

    def end_experience(self, info: ExperienceInfo) -> None:
        labels = torch.as_tensor(info.labels)
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    def predict(self, batch: Batch) -> Prediction:
        answer = int(self.counts.argmax())
        return Prediction(torch.full((len(batch),), answer, device=batch.labels.device))

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts.copy_(state["counts"])
