"""Towers: one or several signal towers and a text tower that meet in one space.

A tower is a front end, an encoder and a projection. By default the text tower is frozen and has no
projection, so its space is the joint one and only the signal side learns (LiT, Zhai et al. 2022,
arXiv:2111.07991); with a width for the joint space both sides have a projection, linear unless
another is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from multimodal.batch import Batch
from multimodal.encoders import Encoder, EncoderConfig
from multimodal.encoders.lora import LoraConfig
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.encoders.projection import ProjectionHead
from multimodal.errors import UserError
from multimodal.hub import PACKAGED
from multimodal.modalities.text import TextAdapter, TextConfig
from multimodal.models.whitening import Whitening
from multimodal.objectives.pairs import MAX_SCALE
from multimodal.registry import Config

TEXTS_AT_ONCE = 64
# What leads from an encoder into the joint space: a matrix, or MoRE's head with this norm.
Projection = Literal["linear", "batch", "layer"]


class TextLoraConfig(Config):
    """Settings of encoder ``lora``, see there, without its base."""

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)


class TextTowerConfig(Config):
    """Where the text encoder comes from, and what of it is trained.

    checkpoint: packaged-minilm (all-MiniLM-L6-v2 from the extra "offline"), a folder, or a name on
    the hub such as sentence-transformers/all-MiniLM-L6-v2, with revision, its commit's 40
    hexadecimal digits. max_length: tokens of a text that are read. train: none (its embeddings are
    then computed once and cached), all, or the last so many blocks. lora: low-rank updates are
    trained, and of the encoder itself nothing; not in the record where there are none.
    """

    checkpoint: str = PACKAGED
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    max_length: int = Field(default=128, ge=8, le=8192)
    train: Literal["none", "all"] | Annotated[int, Field(ge=1)] = "none"
    lora: TextLoraConfig | None = Field(default=None, exclude_if=lambda lora: lora is None)

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.lora is not None and self.train != "none":
            raise ValueError(f"train={self.train}: with lora only its updates are trained")
        return self

    @property
    def encoder(self) -> EncoderConfig:
        base = PretrainedConfig(
            checkpoint=self.checkpoint, revision=self.revision, train=self.train
        )
        if self.lora is None:
            return base
        return LoraConfig(base=base, **self.lora.model_dump())

    @property
    def frozen(self) -> bool:
        """Nothing of the encoder is trained."""
        return self.train == "none" and self.lora is None

    def adapter(self) -> TextAdapter:
        """The tokenizer of the checkpoint."""
        config = TextConfig(
            tokenizer=self.checkpoint, revision=self.revision, max_length=self.max_length
        )
        return config.build(section="text")


class Reader(nn.Module):
    """Front end and encoder. Where both are frozen they stay in evaluation mode (deterministic,
    without dropout), whatever the mode of the whole is. ``whitening``: of the embeddings as what
    stands on them reads them, or None.
    """

    whitening: Whitening | None

    def __init__(self, front_end: nn.Module, encoder: Encoder) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module)
        self.front_end, self.encoder, self.whitening = front_end, encoder, None

    @property
    def frozen(self) -> bool:
        """Nothing of front end and encoder is trained, so ``encode`` may be cached."""
        parameters = [*self.front_end.parameters(), *self.encoder.parameters()]
        return not any(p.requires_grad for p in parameters)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.front_end.eval()
            self.encoder.eval()
        return self

    def encode(self, batch: Batch) -> Tensor:
        """(N, width of the encoder): the batch's own embeddings, if it brings them."""
        if batch.embeddings is not None:
            return batch.embeddings
        features = self.front_end(batch)
        return self.encoder(features.values, features.lengths).pooled

    def whiten(self, setting: str, eps: float = 1e-2) -> None:
        """From now on embeddings are whitened before they are read (``white``).

        setting: the key that asks for it. UserError if the encoder is trained.
        """
        if not self.frozen:
            raise UserError(
                f"{setting}: the embeddings of an encoder that is trained change under their own "
                "mean and covariance; freeze it (encoder.train=none, and no train_encoder), or "
                f"leave {setting.partition('.')[0]} out."
            )
        device = next(self.parameters()).device
        self.whitening = Whitening(self.encoder.width, eps=eps).to(device)

    def white(self, features: Tensor) -> Tensor:
        """(N, D) embeddings as they are read: these themselves, unless they are whitened."""
        return features if self.whitening is None else self.whitening(features)


class Tower(Reader):
    """``forward(batch) -> (N, D)`` embeddings, not normalised. width: D."""

    def __init__(
        self, front_end: nn.Module, encoder: Encoder, projection: nn.Module, *, width: int
    ) -> None:
        super().__init__(front_end, encoder)
        self.projection, self.width = projection, width

    def forward(self, batch: Batch) -> Tensor:
        return self.projection(self.white(self.encode(batch)))


class Aligned(nn.Module):
    """Signal towers by modality, one text tower, and the scale and bias of their cosines.

    scale: 1 / temperature, learned as its logarithm, kept within ``min_scale`` and ``max_scale``
    (``clamp_scale`` after every step), unless ``learn_scale`` is False. bias: that of the sigmoid
    loss; learned only if it does not start at 0. text_frozen: the text encoder is never trained, so
    what it says of a text stands for good; also of a copy, in which nothing takes a gradient.
    """

    def __init__(
        self,
        signals: Mapping[str, Tower],
        text: Tower,
        tokenizer: TextAdapter,
        *,
        scale: float = 1 / 0.07,
        bias: float = 0.0,
        learn_scale: bool = True,
        max_scale: float = MAX_SCALE,
        min_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.signals, self.text, self.tokenizer = nn.ModuleDict(signals), text, tokenizer
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn_scale)
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=bias != 0)
        self.min_scale, self.max_scale = min_scale, max_scale
        self.text_frozen = text.frozen
        self._encoded: dict[str, Tensor] = {}

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        if self.log_scale.requires_grad:
            self.log_scale.clamp_(math.log(self.min_scale), math.log(self.max_scale))

    def embed_signals(self, batch: Batch, modality: str | None = None) -> Tensor:
        """(N, D); modality: which signal tower, needed only where there are several."""
        if modality is None:
            (tower,) = self.signals.values()
            return tower(batch)
        return self.signals[modality](batch)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """n >= 1 texts -> (n, D) on the CPU, without gradient, whatever their order or company."""
        encoded, head = self.encode_texts(texts), self.text.projection
        training = head.training
        head.eval()  # a batch norm must neither read nor count these
        with torch.no_grad():
            found = head(encoded).cpu()
        head.train(training)
        return found

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """n >= 1 texts -> (n, W), what the encoder makes of them before the projection.

        What a frozen encoder made of a text is remembered, see ``share_encoded``.
        """
        known = self._encoded if self.text_frozen else {}
        new = sorted({t for t in texts if t not in known}, key=lambda t: (len(t), t))
        if new:
            training = self.training
            self.eval()
            for start in range(0, len(new), TEXTS_AT_ONCE):
                part = new[start : start + TEXTS_AT_ONCE]
                known.update(zip(part, self.text.encode(self._tokens(part)), strict=True))
            self.train(training)
        return torch.stack([known[t] for t in texts])

    def read_texts(self, texts: Sequence[str]) -> Tensor:
        """n >= 1 texts -> (n, W) as ``encode_texts``, with gradient and in the mode of training."""
        return self.text.encode(self._tokens(list(texts)))

    def share_encoded(self, known: dict[str, Tensor]) -> None:
        """known: text -> (W,), by a text encoder with the same weights; is added to from now on.

        Models that are asked for the same texts in the same order get the same numbers as alone.
        """
        self._encoded = known

    def _tokens(self, texts: list[str]) -> Batch:
        ids, lengths = self.tokenizer.tokenize(texts)
        unused = torch.zeros_like(lengths)
        return Batch(ids, lengths, unused, unused).to(self.log_scale.device)


def build_aligned(
    readers: Mapping[str, Reader],
    text: TextTowerConfig,
    *,
    width: int | None = None,
    projection: Projection = "linear",
    **scale: Any,
) -> Aligned:
    """A signal tower of each reader and a text tower; projections are freshly initialised.

    readers: by modality. width: of the joint space; None: that of the text encoder, without a
    projection of texts. projection: of all towers that have one. scale: ``scale``, ``bias``,
    ``learn_scale``, ``max_scale``, ``min_scale`` of ``Aligned``.
    UserError: a text checkpoint that is absent, damaged or of another modality.
    """
    tokenizer = text.adapter()
    words = text.encoder.build(tokenizer)
    joint = width or words.width
    head = nn.Identity() if width is None else _projection(projection, words.width, joint)
    signals = {
        modality: Tower(
            reader.front_end,
            reader.encoder,
            _projection(projection, reader.encoder.width, joint),
            width=joint,
        )
        for modality, reader in readers.items()
    }
    text_tower = Tower(text.encoder.front_end(tokenizer), words, head, width=joint)
    return Aligned(signals, text_tower, tokenizer, **scale)


def _projection(kind: Projection, width: int, joint: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(width, joint, bias=False)
    return ProjectionHead(width, out=joint, norm=kind)
