"""The configs of ``medley align`` and ``medley zeroshot``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from benchmarks.bench_config import RunConfig
from benchmarks.config.base import CommandConfig, SignalConfig, refuse_repeats
from benchmarks.zeroshot_models import MODELS
from multimodal.evaluation.prompts import Prompts, load_prompts
from multimodal.fit_config import FitConfig
from multimodal.objectives import OBJECTIVES
from multimodal.registry import Config
from multimodal.towers import TextTowerConfig


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
    encoder's own, without a projection of texts. captions: each recording goes with its own text
    (caption, report, transcript), or with a prompt of its class ("labels"). skip_uncaptioned: leave
    recordings without a text out (they are counted) instead of refusing to start. classes: train on
    recordings of these only; None: all. validation_fraction: of the training recordings, held out
    by group for early stopping. quick: one epoch.
    """

    command: ClassVar[str] = "align"

    objectives: tuple[Annotated[Config, OBJECTIVES.choice], ...]
    text: TextTowerConfig = TextTowerConfig()
    width: int | None = Field(default=None, ge=2)
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

    def cells(self) -> list[AlignConfig]:
        """One config for each objective and seed, in the order of a table."""
        return [
            self.model_copy(update={"objectives": (objective,), "seeds": (seed,)})
            for objective in self.objectives
            for seed in self.seeds
        ]


class ZeroShotConfig(CommandConfig):
    """Everything ``medley zeroshot`` needs: a model, a dataset and a protocol.

    model: aligned runs of an experiment, or a checkpoint. split: which recordings. classes: the
    candidates; None: all of the dataset. prompts: as for ``align``; the protocol's, if None.
    robustness, retrieval, diagnostics: parts of the report. protocol: of audio checkpoints, all
    that a foreign harness pins (crop, fill, rate, prompts); medley: ours. seed: of bootstraps and
    of a protocol's random crops. quick: 200 recordings.
    """

    command: ClassVar[str] = "zeroshot"

    model: Annotated[Config, MODELS.choice]
    split: Literal["train", "validation", "test", "all"] = "test"
    classes: tuple[str, ...] | None = None
    prompts: PromptsConfig | None = None
    protocol: Literal["medley", "mteb", "laion", "open_clip", "microsoft"] = "medley"
    robustness: bool = True
    retrieval: bool = True
    diagnostics: bool = True
    batch_size: Annotated[int, Field(ge=1)] = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


CONFIGS: dict[str, type[CommandConfig]] = {
    model.command: model for model in (RunConfig, AlignConfig, ZeroShotConfig)
}
