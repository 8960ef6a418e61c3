"""What of an encoder is trained: ``methods`` of ``medley finetune``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from multimodal.encoders import EncoderConfig
from multimodal.encoders.lora import LoraConfig
from multimodal.registry import Config, Registry

METHODS = Registry("method")


class MethodConfig(Config):
    """Base of every method's config. learning_rate: None is training.learning_rate; few parameters
    take a higher one than all. redraws: the encoder's weights are drawn anew by the seed, whatever
    it was trained on before.
    """

    redraws: ClassVar[bool] = False

    learning_rate: float | None = Field(default=None, gt=0)

    def encoder(self, base: EncoderConfig) -> EncoderConfig:
        """The encoder as this method trains it."""
        raise NotImplementedError


class AdapterConfig(MethodConfig):
    """The settings that LoRA and its variants share; see ``medley encoders describe lora``.

    rank, alpha, dropout: of the update. target_modules: ends of the names of the layers to adapt;
    None: the attention's queries and values, or what the architecture has instead.
    """

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)

    def encoder(self, base: EncoderConfig) -> LoraConfig:
        return LoraConfig(
            base=frozen(base),
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            target_modules=self.target_modules,
            method=self._variant,
        )

    @property
    def _variant(self) -> Literal["lora", "rslora", "dora"]:
        return self.registered_name  # pyright: ignore[reportReturnType]


@METHODS.register("lora")
class LoraMethod(AdapterConfig):
    """Low-rank updates of some linear layers, and the head."""


@METHODS.register("rslora")
class RsLoraMethod(AdapterConfig):
    """LoRA whose update is scaled by alpha / sqrt(rank)."""


@METHODS.register("dora")
class DoraMethod(AdapterConfig):
    """LoRA that trains the norms of the weights' rows too."""


@METHODS.register("full")
class FullMethod(MethodConfig):
    """The whole encoder (or as many of its last blocks as ``encoder.train`` says), and the head."""

    def encoder(self, base: EncoderConfig) -> EncoderConfig:
        return base if isinstance(getattr(base, "train", None), int) else trained(base)


@METHODS.register("head")
class HeadMethod(MethodConfig):
    """The head alone."""

    def encoder(self, base: EncoderConfig) -> EncoderConfig:
        return frozen(base)


@METHODS.register("scratch")
class ScratchMethod(MethodConfig):
    """The whole encoder from random weights: what its training before was worth."""

    redraws: ClassVar[bool] = True

    def encoder(self, base: EncoderConfig) -> EncoderConfig:
        return trained(base)


@METHODS.register("random")
class RandomMethod(MethodConfig):
    """The head alone, on an encoder of random weights: what any encoder gives."""

    redraws: ClassVar[bool] = True

    def encoder(self, base: EncoderConfig) -> EncoderConfig:
        return frozen(base)


def frozen(base: EncoderConfig) -> EncoderConfig:
    """The encoder with nothing trained, as far as its config has a word for that."""
    return _with_train(base, "none")


def trained(base: EncoderConfig) -> EncoderConfig:
    """The encoder with everything trained."""
    return _with_train(base, "all")


def _with_train(base: EncoderConfig, what: str) -> EncoderConfig:
    if "train" not in type(base).model_fields:
        return base
    return base.model_copy(update={"train": what})
