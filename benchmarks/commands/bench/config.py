"""The config of ``medley bench``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from benchmarks.config.base import SignalConfig, refuse_repeats
from continual.learner import LEARNERS
from continual.scenarios import SCENARIOS
from continual.unknown import Reference
from multimodal.datasets import DATASETS
from multimodal.registry import Config


class TrainingConfig(Config):
    """AdamW on mini-batches. epochs: per experience. device: auto takes a GPU where there is one.

    checkpoint_every: steps between checkpoints within an experience. threads: of PyTorch on the
    CPU; None: one for a small model, else PyTorch's default (``machine.use_threads``). Results are
    bit-identical for one number of threads.
    """

    epochs: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 32
    eval_batch_size: Annotated[int, Field(ge=1)] = 256
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    log_every: Annotated[int, Field(ge=1)] = 10


class WarmUpConfig(Config):
    """dataset: to train on first. epochs, batch_size, learning_rate: of that training. seed: of
    its encoder, the same for all seeds of the experiment.
    """

    dataset: Annotated[Config, DATASETS.choice]
    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    seed: Annotated[int, Field(ge=0)] = 0


class EvaluationConfig(Config):
    """unknown: after each experience, are test recordings of classes not met yet told from those of
    classes that were (``continual/unknown.py``)? Distances are from training recordings of the last
    experience and of the memory (kept), or from all so far (met). None: not asked.
    """

    unknown: Reference | None = None


PLAIN = EvaluationConfig()


class RunConfig(SignalConfig):
    """Everything ``medley bench`` needs. quick: two experiences of one epoch.

    warm_up: train the encoder on another dataset first; None: it starts as it was initialised, or
    loaded. workers: processes that take the cells beside each other, each with one CPU thread; 1:
    all in one process; None: by the cores, see ``medley bench --help``. prequential: in an online
    stream every batch is named before it is trained on, at the cost of a forward pass; None: but
    for learners that write texts; of data of several labels never. evaluation: what more is asked;
    not in the record where nothing is.
    """

    command: ClassVar[str] = "bench"
    marker: ClassVar[str] = "learners"

    scenario: Annotated[Config, SCENARIOS.choice]
    learners: tuple[Annotated[Config, LEARNERS.choice], ...]
    training: TrainingConfig = TrainingConfig()
    warm_up: WarmUpConfig | None = None
    prequential: bool | None = Field(default=None, exclude_if=lambda asked: asked is None)
    evaluation: EvaluationConfig = Field(default=PLAIN, exclude_if=lambda asked: asked == PLAIN)
    workers: int | None = Field(default=None, ge=1, exclude_if=lambda count: count is None)

    @field_validator("learners", "seeds")
    @classmethod
    def _some_and_no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return refuse_repeats(values)
