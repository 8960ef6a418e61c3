"""Continual learners: one method a file.

What they are built from and what they share is defined elsewhere; these are its names for methods
outside the tree.
"""

from continual.classifier_learner import (
    ClassifierLearner,
    RehearsalLearner,
    SoftmaxConfig,
    freeze_encoder,
    main_labels,
    mask_absent,
)
from continual.learner import (
    LEARNERS,
    ExperienceInfo,
    Learner,
    LearnerConfig,
    LearnerContext,
    Prediction,
)
from continual.recall import embed
from continual.text_aligned import TextAlignedConfig, TextAlignedLearner

__all__ = [
    "LEARNERS",
    "ClassifierLearner",
    "ExperienceInfo",
    "Learner",
    "LearnerConfig",
    "LearnerContext",
    "Prediction",
    "RehearsalLearner",
    "SoftmaxConfig",
    "TextAlignedConfig",
    "TextAlignedLearner",
    "embed",
    "freeze_encoder",
    "main_labels",
    "mask_absent",
]
