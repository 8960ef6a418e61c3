"""Which tokens a score came from: gradient x attention rollout.

For a score y, with A_l the attention of layer l after its softmax (heads h, tokens L x L):

    C_l = mean_h relu(dy/dA_l * A_l)          R = (I + C_last) ... (I + C_1)(I + C_0)

The relevance of a token is its column of R in the row that the encoder pools: of the class token,
or the mean over the real tokens (without I, which is the row itself). After Chefer, Gur and Wolf,
ICCV 2021 ("Generic attention-model explainability"), without their normalisation of rows unless
asked for; MoRE's authors (arXiv:2410.16239) propagate relevance by rules instead.

While it computes, ``torch.nn.functional.scaled_dot_product_attention`` is a form that keeps A, so
every encoder whose blocks call it has maps: compact, vit, ecg_transformer, LoRA around them, and
checkpoints of ViT, DeiT, DINOv2, VideoMAE, AST, Whisper, wav2vec 2.0 and HuBERT. Models that
look at windows one after another (CLAP, or AST and Whisper on longer recordings) have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal.batch import Encoded, Features
from multimodal.errors import UserError

Score = Callable[[Mapping[str, Tensor]], Tensor]
# Class and distillation tokens of checkpoints; others have none.
EXTRA = {
    "vit": 1,
    "deit": 2,
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "audio-spectrogram-transformer": 2,
}
_ALONE = Lock()  # the replaced function is everybody's


class TokenMap(NamedTuple):
    """values: (N, L) float32 >= 0, the relevance of each token; 0 for class and padded tokens.

    extra: class tokens at the start of L, which have no place in the picture.
    """

    values: Tensor
    extra: int


@dataclass(frozen=True)
class Maps:
    """tokens: of each modality. shares: (N,) of each, of the relevance of all; NaN where all is 0.

    scores: (N,) y. encoded: what the encoders gave.
    """

    tokens: Mapping[str, TokenMap]
    shares: Mapping[str, Tensor]
    scores: Tensor
    encoded: Mapping[str, Encoded]


def attention_maps(
    towers: Mapping[str, tuple[nn.Module, Features]],
    score: Score,
    *,
    normalize_rows: bool = False,
) -> Maps:
    """Maps of one batch of N for a score of it, through all encoders that it was made of.

    towers: by modality, the encoder and its features. score: pooled embeddings (N, D) by modality
    -> (N,) y, each of its own row only, such as ``toward`` or a class's logit. normalize_rows:
    rows of I + C sum to 1. Encoders are in eval mode meanwhile (no DropKey, no dropout), and get
    no gradients.

    UserError: an encoder whose attention cannot be reached.
    """
    encoded: dict[str, Encoded] = {}
    attention: dict[str, list[Tensor]] = {}
    with _ALONE, torch.enable_grad():
        for name, (encoder, features) in towers.items():
            with _as_is(encoder), _kept() as attention[name]:
                values = features.values.detach()
                # Else torch would take a fused path that calls no attention.
                values = values.requires_grad_(values.is_floating_point())
                encoded[name] = encoder(values, features.lengths)
            _refuse_windows(name, encoder, attention[name], len(values))
        scores = score({name: each.pooled for name, each in encoded.items()})
        flat = [a for its in attention.values() for a in its]
        gradients = iter(torch.autograd.grad(scores.sum(), flat, allow_unused=True))
    maps = {}
    for name, its in attention.items():
        layers = [_relevance(a.detach(), next(gradients)) for a in its]
        start, extra = _read(towers[name][0], encoded[name], layers[0].shape[-1])
        rolled = rollout(layers, start, normalize_rows=normalize_rows)
        rolled[:, :extra] = 0
        maps[name] = TokenMap(rolled, extra)
    totals = {name: each.values.sum(1) for name, each in maps.items()}
    whole = torch.stack(list(totals.values())).sum(0)
    shares = {name: total / whole for name, total in totals.items()}
    plain = {name: Encoded(*(t.detach() for t in each)) for name, each in encoded.items()}
    return Maps(maps, shares, scores.detach(), plain)


def toward(
    target: Tensor, projections: Mapping[str, Callable[[Tensor], Tensor]] | None = None
) -> Score:
    """The cosine with ``target`` (D,) or (N, D), e.g. a text's embedding; summed over modalities.

    projections: by modality, from the encoder's embedding into the target's space; None: none.
    """

    def score(pooled: Mapping[str, Tensor]) -> Tensor:
        apart = {n: (projections or {}).get(n, nn.Identity())(p) for n, p in pooled.items()}
        cosines = [functional.cosine_similarity(each, target, dim=-1) for each in apart.values()]
        return torch.stack(cosines).sum(0)

    return score


def rollout(layers: list[Tensor], start: Tensor, *, normalize_rows: bool = False) -> Tensor:
    """start (N, L) x [(I + C_last) ... (I + C_0)], without what never left its token.

    layers: C_0 first, (N, L, L) each.
    """
    row_NL, stayed_NL = start, start
    for layer_NLL in reversed(layers):
        if normalize_rows:
            sums_NL = 1 + layer_NLL.sum(2)
            row_NL, stayed_NL = row_NL / sums_NL, stayed_NL / sums_NL
        row_NL = row_NL + torch.einsum("nl,nlk->nk", row_NL, layer_NLL)
    return (row_NL - stayed_NL).clamp(min=0)


def _relevance(attention_NHLL: Tensor, gradient: Tensor | None) -> Tensor:
    """C (N, L, L) float32; a layer that the score does not depend on has none."""
    if gradient is None:
        return torch.zeros_like(attention_NHLL[:, 0], dtype=torch.float32)
    return (gradient.float() * attention_NHLL.float()).relu().mean(1)


def _read(encoder: Any, encoded: Encoded, length: int) -> tuple[Tensor, int]:
    """(N, L) what of each token the encoder pools, and how many tokens are no part of a picture.

    length: L of the attention. Tokens may be fewer: of AST's two class tokens the mean is one.
    """
    base = unwrapped(encoder)
    start_NL = encoded.mask / encoded.mask.sum(1, keepdim=True).clamp(min=1)
    if getattr(base, "pooling", "mean") == "cls":
        start_NL = torch.zeros_like(start_NL)
        start_NL[:, 0] = 1
    joined = 1 + length - start_NL.shape[1]
    first_NJ = start_NL[:, :1].expand(-1, joined) / joined
    start_NL = torch.cat([first_NJ, start_NL[:, 1:]], dim=1)
    config = getattr(getattr(base, "model", None), "config", None)
    if config is None:
        return start_NL, int(getattr(base, "pooling", "mean") == "cls")
    extra = EXTRA.get(config.model_type, 0)
    return start_NL, extra + getattr(config, "num_register_tokens", 0)


def unwrapped(encoder: Any) -> Any:
    """The encoder that LoRA is around, or the encoder."""
    wrapped = getattr(encoder, "peft", None)
    return encoder if wrapped is None else wrapped.get_base_model()


def _refuse_windows(name: str, encoder: Any, attention: list[Tensor], count: int) -> None:
    base = unwrapped(encoder)
    blocks = getattr(base, "blocks", None) or getattr(base, "layers", None) or ()
    square = all(a.dim() == 4 and a.shape[2] == a.shape[3] for a in attention)
    if not attention or len(attention) != len(blocks) or not square:
        raise UserError(
            f"{name}: encoder {type(base).__name__} made {len(attention)} attention maps with its "
            f"{len(blocks)} blocks; maps need an encoder whose blocks each attend over all tokens "
            "once, and recordings no longer than its window (modality.seconds)."
        )
    if any(len(a) != count for a in attention):
        raise UserError(f"{name}: encoder {type(base).__name__} splits a batch into windows.")


@contextmanager
def _as_is(encoder: nn.Module) -> Iterator[None]:
    """In eval mode, no parameter needing a gradient; all as before afterwards."""
    modes = [(module, module.training) for module in encoder.modules()]
    needing = [p for p in encoder.parameters() if p.requires_grad]
    encoder.eval()
    for p in needing:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in needing:
            p.requires_grad_(True)
        for module, training in modes:
            module.training = training


@contextmanager
def _kept() -> Iterator[list[Tensor]]:
    """The attention (N, heads, L, L) of every call until the end, each needing a gradient."""
    kept: list[Tensor] = []

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **others: Any,
    ) -> Tensor:
        assert not is_causal, "encoders attend to all tokens"
        scores = query @ key.transpose(-1, -2) * (scale or query.shape[-1] ** -0.5)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        weights = scores.softmax(-1)
        kept.append(weights if weights.requires_grad else weights.requires_grad_())
        return weights @ value

    real = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = attend
    try:
        yield kept
    finally:
        functional.scaled_dot_product_attention = real
