"""Pre-norm transformer blocks with DropKey, and what the encoders of MoRE share.

The blocks are those of ViT-B (Dosovitskiy et al. 2021) in the form that MoRE's authors use: one
linear layer without bias makes queries, keys and values; a class token is read behind a final norm.
At D = 768 a block has 7,085,568 parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu

from multimodal.batch import Encoded
from multimodal.encoders import Depth, EncoderConfig, Heads, Width, refuse_large
from multimodal.encoders.dropkey import Schedule, dropped_attention, ratios


class TowerConfig(EncoderConfig):
    """Base of the configs of MoRE's encoders; ViT-B is width 768, depth 12, heads 12.

    dropkey: the ratio of keys dropped in the first layer, in training. schedule: linear, down to
    none in the last layer, or constant. train: all of it, or none. paper_code: what the authors'
    published code computes: the settings of ``PAPER_CODE``, which then need not be named.
    """

    PAPER_CODE: ClassVar[Mapping[str, Any]] = {"dropkey": 0.3, "schedule": "constant"}

    width: Width = 192
    depth: Depth = 4
    heads: Heads = 3
    dropkey: Annotated[float, Field(ge=0, lt=1)] = 0.2
    schedule: Schedule = "linear"
    train: Literal["all", "none"] = "all"
    paper_code: bool = False

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("paper_code") is not True:
            return data
        for name, value in cls.PAPER_CODE.items():
            if data.get(name, value) != value:
                raise ValueError(
                    f"paper_code means {name}={value}, not {data[name]}; leave one out"
                )
        return {**data, **cls.PAPER_CODE}

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads ({self.heads})")
        refuse_large(self.width, self.depth)
        return self

    @property
    def tower(self) -> dict[str, Any]:
        """The settings of every ``Tower``."""
        names = ("width", "depth", "heads", "dropkey", "schedule")
        return {name: getattr(self, name) for name in names}


class Attention(nn.Module):
    """ratio: of keys that DropKey removes in training."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.heads, self.ratio = heads, ratio
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, ratio={self.ratio:g}"

    def forward(self, tokens_NLD: Tensor, valid_NL: Tensor | None) -> Tensor:
        heads_3NHLd = self.qkv(tokens_NLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        ratio = self.ratio if self.training else 0.0
        query, key, value = heads_3NHLd.unbind()
        mixed_NHLd = dropped_attention(query, key, value, ratio, valid=valid_NL)
        return self.out(mixed_NHLd.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """(N, L, D) -> the same; the MLP is four times as wide."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, ratio)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens_NLD: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """attention_mask: (N, L) bool, False at padding."""
        tokens_NLD = tokens_NLD + self.attention(self.norm1(tokens_NLD), attention_mask)
        return tokens_NLD + self.narrow(gelu(self.wide(self.norm2(tokens_NLD))))


class Tower(nn.Module):
    """A class token and blocks behind a stem; the embedding is the class token after ``norm``.

    width: D. places: learned positions behind that of the class token. tail, pooling: see
    ``PretrainedEncoder``, whose users these encoders serve too.
    """

    pooling = "cls"

    def __init__(
        self, places: int, *, width: int, depth: int, heads: int, dropkey: float, schedule: Schedule
    ) -> None:
        super().__init__()
        self.width = width
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(1 + places, width))
        each = ratios(dropkey, depth, schedule)
        self.blocks = nn.ModuleList(Block(width, heads, ratio) for ratio in each)
        self.norm = nn.LayerNorm(width)

    @property
    def tail(self) -> list[nn.Module]:
        """What comes behind the last block."""
        return [self.norm]

    def initialise(self) -> None:
        """Linear layers and tokens as in ViT (normal, 0.02), biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for tokens in (self.class_token, self.positions):
            nn.init.trunc_normal_(tokens, std=0.02)

    def encoded(self, tokens_NPD: Tensor, valid_NP: Tensor | None) -> Encoded:
        """tokens: with their positions, without a class token. valid: None: all are."""
        first_D = (self.class_token + self.positions[0]).to(tokens_NPD.dtype)
        tokens_NLD = torch.cat([first_D.expand(len(tokens_NPD), 1, -1), tokens_NPD], dim=1)
        mask_NL = torch.ones(tokens_NLD.shape[:2], dtype=torch.bool, device=tokens_NLD.device)
        if valid_NP is not None:
            mask_NL[:, 1:] = valid_NP
        for block in self.blocks:
            tokens_NLD = block(tokens_NLD, attention_mask=None if valid_NP is None else mask_NL)
        tokens_NLD = self.norm(tokens_NLD)
        return Encoded(tokens_NLD, mask_NL, tokens_NLD[:, 0])
