"""The config of ``medley align``, and of prompts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from benchmarks.config.base import SignalConfig, refuse_repeats
from multimodal.evaluation.prompts import Prompts, load_prompts
from multimodal.models.towers import TextTowerConfig
from multimodal.objectives import OBJECTIVES
from multimodal.registry import Config
from multimodal.training.config import FitConfig


class PromptsConfig(Config):
    """Where class names become texts.

    templates: a shipped file ("audio", "speech_intent", ...), the path of one, or None for that of
    the modality; the first template is the training-style one. phrases: likewise, of class phrases,
    or None for the class names. ensemble: classes are the mean of all templates, not the first.
    """

    templates: str | None = None
    phrases: str | None = None
    ensemble: bool = False

    def load(self, modality: str) -> Prompts:
        return load_prompts(self.templates or modality, self.phrases)


class AlignConfig(SignalConfig):
    """Everything ``medley align`` needs; one run an objective and seed.

    objectives: what is trained. text: the text tower. width: of the joint space; None: the text
    encoder's own, without a projection of texts. whiten: the projection of signals reads embeddings
    whitened by mean and covariance of all training recordings, without augmentation, counted before
    the first step and then fixed; takes a frozen encoder (encoder.train=none). captions: each
    recording goes with its own text (caption, report, transcript), or with a prompt of its class
    ("labels"). skip_uncaptioned: leave recordings without a text out (they are counted) instead of
    refusing to start. classes: train on recordings of these only; None: all. validation_fraction:
    of the training recordings, held out by group for early stopping. quick: one epoch.
    """

    command: ClassVar[str] = "align"
    marker: ClassVar[str] = "objectives"

    objectives: tuple[Annotated[Config, OBJECTIVES.choice], ...]
    text: TextTowerConfig = TextTowerConfig()
    width: int | None = Field(default=None, ge=2)
    # Not in the record where it is off: runs from before it could be chosen keep their identity.
    whiten: bool = Field(default=False, exclude_if=lambda whiten: not whiten)
    captions: Literal["text", "labels"] = "text"
    skip_uncaptioned: bool = False
    prompts: PromptsConfig = PromptsConfig()
    classes: tuple[str, ...] | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    training: FitConfig = FitConfig()

    @field_validator("objectives", "seeds")
    @classmethod
    def _some_and_no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return refuse_repeats(values)
