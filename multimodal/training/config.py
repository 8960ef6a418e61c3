"""Settings of the fit loop (``fit.py``)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from multimodal.registry import Config
from multimodal.training.meanings import divisors_near


class BatchConfig(Config):
    """What every batch is made of, where it is not drawn blindly.

    meanings: distinct classes, with batch_size / meanings recordings of each: many paraphrases of
    few meanings (``meanings.py``). A stress test: it knows the meanings, as training in use does
    not. neighbours: half of each batch is drawn blindly, and each of these is joined by one of so
    many recordings of other texts that lie nearest to it (``neighbours.py``); for contrastive
    training. One of the two.
    """

    meanings: Annotated[int, Field(ge=2)] | None = Field(
        default=None, exclude_if=lambda meanings: meanings is None
    )
    neighbours: Annotated[int, Field(ge=1)] | None = Field(
        default=None, exclude_if=lambda neighbours: neighbours is None
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.meanings is None) == (self.neighbours is None):
            raise ValueError("batch: set meanings or neighbours, one of the two")
        return self


class FitConfig(Config):
    """AdamW with linear warm-up and a cosine to 0.

    batch_size: recordings of a step, of all processes together (of contrastive tasks the pairs
    whose negatives are each other, two or more a process). batch: what each is made of; None:
    recordings of similar length, drawn blindly. micro_batch: recordings embedded at once (exact,
    see ``grad_cache.py``); None: the whole batch. warmup: share of all steps. clip_norm: of all
    gradients together. precision: autocast of the encoders; losses are in float32. ema: decay of
    the moving average that is evaluated and kept. patience: evaluations without improvement before
    training stops; needs validation recordings. gradient_checkpointing: encoders are computed again
    in the backward pass instead of kept. threads: of PyTorch on the CPU; None: one for a small
    model, else PyTorch's default. checkpoint_every, log_every: steps.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=256, ge=1)
    batch: BatchConfig | None = Field(default=None, exclude_if=lambda batch: batch is None)
    micro_batch: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=None, ge=1)
    gradient_checkpointing: bool = False
    eval_batch_size: int = Field(default=256, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    log_every: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _whole_meanings(self) -> Self:
        if self.batch is None:
            return self
        meanings, size = self.batch.meanings, self.batch_size
        if meanings is not None and size % meanings:
            near = " or ".join(map(str, divisors_near(size, meanings)))
            raise ValueError(
                f"batch.meanings={meanings} does not divide batch_size={size}; the nearest that "
                f"do: {near}"
            )
        if meanings is None and (size % 2 or size < 4):
            raise ValueError(
                f"batch.neighbours: batch_size={size} is to be halved, two recordings or more "
                "each and a neighbour of each; set an even number from 4 on"
            )
        return self
