"""The config of ``medley finetune``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from benchmarks.commands.align.config import PromptsConfig
from benchmarks.commands.bench.config import WarmUpConfig
from benchmarks.commands.finetune.methods import METHODS
from benchmarks.config.base import SignalConfig, refuse_repeats
from multimodal.datasets import DATASETS
from multimodal.models.towers import TextTowerConfig
from multimodal.objectives import OBJECTIVES
from multimodal.registry import Config
from multimodal.training.config import FitConfig

NAME = r"^[A-Za-z0-9][A-Za-z0-9_. -]*$"  # of a registered model


class TextsConfig(Config):
    """Of task ``align``. objective, text, width, captions, prompts: as in ``medley align``."""

    objective: Annotated[Config, OBJECTIVES.choice] = Field(
        default_factory=lambda: OBJECTIVES.parse("clip")
    )
    text: TextTowerConfig = TextTowerConfig()
    width: int | None = Field(default=None, ge=2)
    captions: Literal["text", "labels"] = "text"
    skip_uncaptioned: bool = False
    prompts: PromptsConfig = PromptsConfig()


class FinetuneConfig(SignalConfig):
    """Everything ``medley finetune`` needs; one run a method and seed.

    methods: what is trained (lora, rslora, dora, full, head, scratch, random); method: the same for
    one. task: classify, by the dataset's labels, one a recording or several; or align, with texts.
    init: folder of a finished run of align, bench or finetune whose encoder is the start (its
    settings are then the run's). warm_up: the same, of a run that trains the encoder on another
    dataset first, as ``medley bench`` does; runs of equal settings share it. from_adapter: folder
    of a fine-tuned model whose adapter and head are trained further. whiten: the head reads
    embeddings whitened by mean and covariance of the training recordings as the encoder made them
    at first, which is folded into it at the end. pos_weight: of several labels, a positive counts
    as much as its class has negatives for each. validation_fraction: of the training recordings,
    held out by group, for early stopping and thresholds. register_as: of MLflow's model registry.
    evaluate_also: other datasets on which a linear probe tells what fine-tuning cost the encoder
    (accuracy, or macro AUROC of several labels a recording).
    texts: of alignment. quick: one epoch.
    """

    command: ClassVar[str] = "finetune"
    marker: ClassVar[str] = "methods"
    alias: ClassVar[str] = "method"

    methods: tuple[Annotated[Config, METHODS.choice], ...]
    method: Annotated[Config, METHODS.choice] | None = Field(
        default=None, exclude_if=lambda method: method is None
    )
    task: Literal["classify", "align"] = "classify"
    init: str | None = None
    warm_up: WarmUpConfig | None = None
    from_adapter: str | None = None
    whiten: bool = True
    pos_weight: bool = False
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    training: FitConfig = FitConfig(batch_size=32, weight_decay=0.01)
    register_as: Annotated[str, Field(pattern=NAME)] | None = None
    evaluate_also: tuple[Annotated[Config, DATASETS.choice], ...] = ()
    texts: TextsConfig = TextsConfig()

    @classmethod
    def parse(cls, data: object) -> Self:
        """``method`` is a list of one."""
        if isinstance(data, dict) and data.get("method") is not None and "methods" not in data:
            rest = {key: value for key, value in data.items() if key != "method"}
            data = {**rest, "methods": [data["method"]]}
        return super().parse(data)

    @field_validator("methods", "seeds")
    @classmethod
    def _some_and_no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return refuse_repeats(values)

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.method is not None:
            raise ValueError("give methods or method, not both")
        starts = {"init": self.init, "warm_up": self.warm_up, "from_adapter": self.from_adapter}
        if len(given := [name for name, value in starts.items() if value is not None]) > 1:
            raise ValueError(f"give {' or '.join(given)}, not both")
        if self.task != "align" and self.texts != TextsConfig():
            raise ValueError("texts is of task=align; set that, or leave texts out")
        if self.task == "align" and self.pos_weight:
            raise ValueError("pos_weight is of task=classify; leave it out")
        if self.register_as is not None and self.tracking.store != "mlflow":
            raise ValueError("register_as needs tracking.store=mlflow, whose registry it is")
        return self
