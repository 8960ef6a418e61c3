"""Access to the tokens between the blocks of a transformer: prompts go in, queries come out.

Works on ``compact`` and on the transformers architectures whose blocks take one sequence of tokens
(ViT, DeiT, DINOv2, AST, wav2vec 2.0, HuBERT, Whisper, VideoMAE, BERT ...), by hooks around the
blocks for the length of one call; the encoder itself is unchanged. Prompts are appended at the end
of the sequence, after positions were added, and are valid in its padding mask; attention does not
ask where a token stands, so the end is as good as behind the class token. They never enter a mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from multimodal.batch import Encoded, Features
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.families.windows import one_class_token, shares
from multimodal.errors import UserError

# Their blocks see windows, or the distance of tokens, which a prompt has not.
WITHOUT_ACCESS = ("wavlm", "clap", "clap_audio_model", "t5", "mt5", "mpnet")


class TokenAccess:
    """Of one encoder; UserError if it has none.

    depth: number of blocks. class_token: the encoder reads its first token, not a mean.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        kind = getattr(getattr(getattr(encoder, "model", None), "config", None), "model_type", "")
        blocks = getattr(encoder, "blocks", None) or getattr(encoder, "layers", None)
        if not blocks or kind in WITHOUT_ACCESS:
            raise UserError(
                f"encoder {kind or type(encoder).__name__!r} gives no access to the tokens between "
                "its blocks, which prompts need; use compact, or a checkpoint of ViT, DeiT, "
                "DINOv2, AST, wav2vec 2.0, HuBERT, Whisper or VideoMAE."
            )
        self.blocks: list[nn.Module] = list(blocks)
        self.kind, self.depth = kind, len(self.blocks)
        self.class_token = getattr(encoder, "pooling", "mean") == "cls"

    def run(self, features: Features, prompts: Mapping[int, Tensor]) -> Encoded:
        """Encode with prompts (N, T, D) before each named block, taken out again behind it."""
        with self._hooked({b: (p, b) for b, p in prompts.items()}, []):
            return self.encoder(features.values, features.lengths)

    def run_through(self, features: Features, prompt: Tensor) -> Tensor:
        """(N, T, D) what a prompt before the first block has become, after the final norm.

        Of a recording of several windows: the mean over them, each by what it holds of sound, as
        in ``query`` and in embeddings.
        """
        out: list[Tensor] = []
        with self._hooked({0: (prompt, self.depth - 1)}, out):
            mask = self.encoder(features.values, features.lengths).mask
        become = out[0]
        if len(out) > 1:
            ast = self.kind == "audio-spectrogram-transformer"
            weight_NW = shares(mask, len(out), class_tokens=int(ast)).to(become.dtype)
            become = torch.einsum("nw,wntd->ntd", weight_NW, torch.stack(out))
        for norm in self._final():
            become = norm(become)
        return become

    @torch.no_grad()
    def query(self, features: Features, *, use_last_layer: bool = False) -> Tensor:
        """(N, D) what a prompt is chosen by: the pooled tokens before the last block.

        The class token (of AST the mean of its two), or the mean of the real tokens.
        use_last_layer: the encoder's own embedding instead.
        """
        seen: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])

        handle = self.blocks[-1].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            encoded = self.encoder(features.values, features.lengths)
        finally:
            handle.remove()
        if use_last_layer:
            return encoded.pooled
        mask, ast = encoded.mask, self.kind == "audio-spectrogram-transformer"
        if ast:
            seen = [torch.cat([x[:, :2].mean(1, keepdim=True), x[:, 2:]], dim=1) for x in seen]
        tokens = self._joined(seen, mask)
        if ast:
            tokens, _ = one_class_token(tokens, mask, len(seen))
        if self.class_token:
            return tokens[:, 0]
        real = tokens.masked_fill(~mask[:, :, None], 0)
        return real.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)

    @staticmethod
    def _joined(seen: list[Tensor], mask: Tensor) -> Tensor:
        """(N, L, D) of all windows; a last one may be shorter than the others."""
        if len(seen) == 1:
            return seen[0]
        tokens = torch.cat(seen, dim=1)
        return pad(tokens, (0, 0, 0, mask.shape[1] - tokens.shape[1]))

    def _final(self) -> list[nn.Module]:
        if isinstance(self.encoder, CompactEncoder):
            return [self.encoder.norm]
        return self.encoder.tail

    @contextmanager
    def _hooked(self, plan: Mapping[int, tuple[Tensor, int]], out: list[Tensor]) -> Iterator[None]:
        """plan: first block -> its prompt, and the block behind which it leaves, into ``out``."""
        handles = []
        for first, (prompt, last) in plan.items():
            for b in range(first, last + 1):
                enter = _Enter(prompt if b == first else None, prompt.shape[1])
                handles.append(
                    self.blocks[b].register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
                )
            leave = _Leave(prompt.shape[1], out)
            handles.append(self.blocks[last].register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Enter:
    """Before a block: append the prompt, if it is new, and let the masks know of its tokens."""

    def __init__(self, prompt: Tensor | None, extra: int) -> None:
        self.prompt, self.extra = prompt, extra

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple:
        named = not args
        hidden = kwargs["hidden_states"] if named else args[0]
        length = hidden.shape[1] - (0 if self.prompt is not None else self.extra)
        if self.prompt is not None:
            hidden = torch.cat([hidden, self.prompt.to(hidden.dtype)], dim=1)
        rest = tuple(self._masks("", value, length) for value in args[1:])
        kwargs = {key: self._masks(key, value, length) for key, value in kwargs.items()}
        if named:
            return (), {**kwargs, "hidden_states": hidden}
        return (hidden, *rest), kwargs

    def _masks(self, key: str, value: Any, length: int) -> Any:
        if not isinstance(value, Tensor) or value.shape[-1] != length:
            return value
        if key == "src_key_padding_mask":  # True: padding
            return pad(value, (0, self.extra), value=False)
        if value.dim() == 4 or key == "attention_mask":
            # Added to scores (0: attended to), or True where it is.
            open_value = 0.0 if value.is_floating_point() else 1
            rows = self.extra if value.dim() == 4 and value.shape[2] == length else 0
            widths = (0, self.extra, 0, rows) if value.dim() == 4 else (0, self.extra)
            return pad(value, widths, value=open_value)
        return value


class _Leave:
    """Behind a block: take the prompt out again."""

    def __init__(self, extra: int, out: list[Tensor]) -> None:
        self.extra, self.out = extra, out

    def __call__(self, module: nn.Module, args: tuple, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        self.out.append(hidden[:, -self.extra :])
        kept = hidden[:, : -self.extra]
        return (kept, *output[1:]) if isinstance(output, tuple) else kept


class QueryEncoder(nn.Module):
    """The frozen encoder as one that gives the query as its embedding, for caches."""

    def __init__(self, encoder: Any, *, use_last_layer: bool) -> None:
        super().__init__()
        self.encoder, self.use_last_layer = encoder, use_last_layer
        self.width = encoder.width

    def extra_repr(self) -> str:
        return f"use_last_layer={self.use_last_layer}"

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        access = TokenAccess(self.encoder)
        query = access.query(Features(features, lengths), use_last_layer=self.use_last_layer)
        none = features.new_empty(len(query), 0)
        return Encoded(none, none.bool(), query)
