"""The config of ``medley zeroshot``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from benchmarks.commands.align.config import PromptsConfig
from benchmarks.commands.zeroshot.models import MODELS
from benchmarks.config.base import CommandConfig
from benchmarks.runs.composed import ComposeConfig
from multimodal.datasets import DATASETS
from multimodal.evaluation.compositional import Mode
from multimodal.registry import Config


class ZeroShotConfig(CommandConfig):
    """Everything ``medley zeroshot`` needs: a model, a dataset and a protocol.

    model: aligned runs of an experiment, a CLAP checkpoint, or Whisper's transcripts through a text
    encoder. split: which recordings. classes: the candidates; None: all of the dataset; "tested":
    those that the split has recordings of.
    prompts: as for ``align``; the protocol's, if None. robustness, retrieval, diagnostics: parts of
    the report. protocol: of audio checkpoints, all that a foreign harness pins (crop, fill, rate,
    prompts); medley: ours. seed: of bootstraps and of a protocol's random crops. quick: 200
    recordings. task: "classes" names recordings; "compositional" tells look-alikes apart by order
    and simultaneity (text, audio and group score): items of a compositional dataset, or scenes that
    ``compose`` makes of a dataset's single events, whose test_splits count then instead of split;
    classes have no part in it. mode: of its items the first two ("pairs", which
    published figures measure) or all ("full"). training_pool: a dataset of sound that the model was
    trained on; test recordings of which its split "train" holds a part, under whatever name, are
    counted by their fingerprints.
    """

    command: ClassVar[str] = "zeroshot"
    marker: ClassVar[str] = "model"

    model: Annotated[Config, MODELS.choice]
    split: Literal["train", "validation", "test", "all"] = "test"
    classes: tuple[str, ...] | Literal["tested"] | None = None
    prompts: PromptsConfig | None = None
    protocol: Literal["medley", "mteb", "laion", "open_clip", "microsoft"] = "medley"
    robustness: bool = True
    retrieval: bool = True
    diagnostics: bool = True
    batch_size: Annotated[int, Field(ge=1)] = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    task: Literal["classes", "compositional"] = Field(
        default="classes", exclude_if=lambda task: task == "classes"
    )
    compose: ComposeConfig | None = Field(default=None, exclude_if=lambda scenes: scenes is None)
    mode: Mode = Field(default="pairs", exclude_if=lambda mode: mode == "pairs")
    training_pool: Annotated[Config, DATASETS.choice] | None = Field(
        default=None, exclude_if=lambda pool: pool is None
    )

    @model_validator(mode="after")
    def _of_the_task(self) -> Self:
        given = [name for name in ("compose", "mode") if name in self.model_fields_set]
        if self.task == "classes" and given:
            raise ValueError(
                f"{', '.join(given)}: of task=compositional; set it, or leave them out"
            )
        if self.task == "compositional" and self.classes is not None:
            raise ValueError(
                "classes: of task=classes; items have captions, leave the candidates out"
            )
        return self
