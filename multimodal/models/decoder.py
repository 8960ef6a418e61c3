"""A transformer decoder that reads an encoder's tokens, and that decodes step by step.

Vaswani et al. 2017 with the norms before the layers (Xiong et al. 2020), as in the code of
COCONUT's authors: sinusoidal positions, embeddings times sqrt(D), Xavier initialisation, a final
norm, a linear layer to the vocabulary that is not the embedding table. ReLU is our choice.
Or as Whisper's decoder (Radford et al. 2022): positions are trained, embeddings not scaled, GELU,
and the embedding table is the last layer too.

Legend: N recordings, W hypotheses of each, T tokens written, L tokens of the encoder, H heads,
D width, d = D / H, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, linear, relu, scaled_dot_product_attention

from multimodal.models.written import LOWEST, Past, Written


class Attention(nn.Module):
    """dropout: of attention weights, in training."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)

    def keys_values(self, tokens_NLD: Tensor) -> Tensor:
        """(2, N, H, L, d)."""
        return self.memory(tokens_NLD).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(
        self,
        tokens_NTD: Tensor,
        memory_2NHLd: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """mask: (N, 1, T or 1, L), is added to the scores."""
        query_NHTd = self.query(tokens_NTD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = memory_2NHLd.unbind()
        mixed_NHTd = scaled_dot_product_attention(
            query_NHTd,
            key,
            value,
            attn_mask=None if mask is None else mask.to(query_NHTd.dtype),
            is_causal=causal,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(mixed_NHTd.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention to what is written, attention to the encoder, and an MLP."""

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.dropout, self.activation = dropout, activation
        self.own, self.cross = (Attention(width, heads, dropout) for _ in range(2))
        self.wide, self.narrow = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, tokens_NTD: Tensor, memory_2NHLd: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.norm1(tokens_NTD)
        read = self.own(normed, self.own.keys_values(normed), causal=True)
        return self._behind(tokens_NTD + self._dropped(read), memory_2NHLd, mask)

    def step(
        self,
        tokens_NWD: Tensor,
        past: Past,
        line: Tensor | None,
        memory: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """One token of each hypothesis, which ``past`` grows by."""
        normed = self.norm1(tokens_NWD)
        read = self.own(normed, past.grown(self.own.keys_values(normed)), mask=line)
        return self._behind(tokens_NWD + read, memory, mask)

    def _behind(self, tokens: Tensor, memory_2NHLd: Tensor, mask: Tensor | None) -> Tensor:
        read = self.cross(self.norm2(tokens), memory_2NHLd, mask=mask)
        tokens = tokens + self._dropped(read)
        hidden = self._dropped(self.activation(self.wide(self.norm3(tokens))))
        return tokens + self._dropped(self.narrow(hidden))

    def _dropped(self, tokens: Tensor) -> Tensor:
        return dropout(tokens, self.dropout, self.training)


class Decoder(nn.Module):
    """``forward(ids, tokens, mask) -> logits``; ``start`` and ``step`` give the same, one token a
    step. pad: the id whose embedding is zero and, but of Whisper's, stays so. places: trained
    positions of Whisper's form; 0: the other form.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        layers: int,
        heads: int,
        width: int,
        feed_forward: int,
        dropout: float = 0.0,
        pad: int = 0,
        places: int = 0,
    ) -> None:
        super().__init__()
        assert width % (2 * heads) == 0, "heads divide the width, and positions are pairs"
        self.width, self.dropout, self.pad = width, dropout, pad
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=pad)
        self.places = nn.Embedding(places, width) if places else None
        self.layers = nn.ModuleList(
            Layer(width, heads, feed_forward, dropout, gelu if places else relu)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out = None if places else nn.Linear(width, vocabulary)
        self.initialise()

    def initialise(self) -> None:
        """Xavier's uniform weights; of keys and of values each by itself."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, Attention):
                for half in module.memory.weight.chunk(2):
                    nn.init.xavier_uniform_(half)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.embedding.weight[self.pad] = 0

    @property
    def _stack(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        tokens: Float[Tensor, "batch read dim"],
        mask: Bool[Tensor, "batch read"],
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Logits of what follows each id. ids: [SOS] first, padded on the right, where no token
        that is real reads them. tokens, mask: of the encoder, False at padding.
        """
        hidden = self._embedded(ids, self._positions(ids.shape[1]))
        added = _added(mask)
        for layer in self._stack:
            hidden = layer(hidden, layer.cross.keys_values(tokens), added)
        return self._logits(hidden)

    def start(
        self, tokens: Float[Tensor, "batch read dim"], mask: Bool[Tensor, "batch read"]
    ) -> Written:
        memory = [layer.cross.keys_values(tokens) for layer in self._stack]
        return Written(memory, _added(mask))

    def step(
        self, ids: Int[Tensor, "batch hypotheses"], written: Written
    ) -> Float[Tensor, "batch hypotheses vocabulary"]:
        """Logits of what follows the newest id of each hypothesis; ``written`` grows by it."""
        line = written.next_step(ids)
        hidden = self._embedded(ids, self._positions(written.length)[-1])
        for layer, past, memory in zip(self._stack, written.past, written.memory, strict=True):
            hidden = layer.step(hidden, past, line, memory, written.mask)
        return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        normed = self.norm(hidden)
        return linear(normed, self.embedding.weight) if self.out is None else self.out(normed)

    def _positions(self, length: int) -> Tensor:
        return positions(length, self.width) if self.places is None else self.places.weight[:length]

    def _embedded(self, ids: Tensor, places: Tensor) -> Tensor:
        embedded = self.embedding(ids)
        if self.places is None:
            embedded = embedded * math.sqrt(self.width)
        return dropout(embedded + places.to(embedded), self.dropout, self.training)


def _added(mask_NL: Tensor) -> Tensor | None:
    """(N, 1, 1, L) scores: 0, ``LOWEST`` at padding; None where there is none."""
    if mask_NL.all():
        return None
    scores = torch.zeros(mask_NL.shape, device=mask_NL.device)
    return scores.masked_fill(~mask_NL, LOWEST)[:, None, None]


def positions(length: int, width: int) -> Tensor:
    """(length, width) sinusoidal codes, sines first (an order of channels that is no matter)."""
    return _codes(1 << (length - 1).bit_length(), width)[:length]


@lru_cache(maxsize=64)
def _codes(length: int, width: int) -> Tensor:
    rates = torch.exp(-math.log(10_000.0) / (width // 2) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
