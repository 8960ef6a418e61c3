"""Sequence to sequence alone: fine-tuning, with a memory experience replay, and joint training.

What COCONUT is compared with, on the same model: see ``continual/spoken.py`` and ``coconut.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from continual.learner import LEARNERS, Kind, LearnerContext
from continual.spoken import SpokenConfig, SpokenLearner


@LEARNERS.register("seq2seq")
class Seq2SeqConfig(SpokenConfig):
    """memory_size 0 is fine-tuning."""

    def build(self, context: LearnerContext) -> SpokenLearner:
        return SpokenLearner(**self.parts(context))


@LEARNERS.register("seq2seq_joint")
class Seq2SeqJointConfig(SpokenConfig):
    """The upper bound: trained once, on the whole stream."""

    kind: ClassVar[Kind] = "joint"

    def build(self, context: LearnerContext) -> SpokenJointLearner:
        return SpokenJointLearner(**self.parts(context))


class SpokenJointLearner(SpokenLearner):
    kind = "joint"

    def plan(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        return super().plan([np.concatenate(rows)])
