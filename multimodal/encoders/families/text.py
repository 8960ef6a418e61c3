"""Text encoders: BERT and its relatives (MiniLM is one), and the encoder half of T5.

BERT: Devlin et al. 2019. RoBERTa: Liu et al. 2019; XLM-R: Conneau et al. 2020. MPNet: Song et al.
2020. T5: Raffel et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.encoders.families import Family, load_model, register
from multimodal.errors import UserError
from multimodal.modalities import Adapter
from multimodal.modalities.text import TextAdapter, TokenIds, load_tokenizer

# Their first tokens stand at position pad_token_id + 1, so they hold that many fewer.
_SHIFTED = ("roberta", "xlm-roberta", "camembert", "mpnet")


@dataclass(frozen=True)
class FeatureSpec:
    """tokenizer: name and contents of the adapter's. limit: tokens that the encoder can place."""

    tokenizer: str
    limit: int | None


class CheckedTokenIds(TokenIds):
    """Front end of token ids whose tokenizer is the checkpoint's."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec

    def extra_repr(self) -> str:
        return str(self.spec)


def _load_bert(folder: Path, config: Any) -> nn.Module:
    from transformers import AutoModel

    return load_model(AutoModel, folder, add_pooling_layer=False)


def _load_t5(folder: Path, config: Any) -> nn.Module:
    import transformers

    mt5 = config.model_type == "mt5"
    return load_model(transformers.MT5EncoderModel if mt5 else transformers.T5EncoderModel, folder)


def _front_end(folder: Path, config: Any, adapter: Adapter) -> nn.Module:
    assert isinstance(adapter, TextAdapter)
    name, length = adapter.config.tokenizer, adapter.config.max_length
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in _SHIFTED:
        limit -= config.pad_token_id + 1
    if limit is not None and length > limit:
        raise UserError(
            f"{adapter.section}.max_length={length}: checkpoint {folder} reads at most {limit} "
            f"tokens; set {adapter.section}.max_length={limit}."
        )
    if load_tokenizer(str(folder)).get_vocab() != adapter.vocabulary:
        raise UserError(
            f"modality.tokenizer={name!r}: its tokens are not those of checkpoint {folder}; set "
            "modality.tokenizer (and modality.revision) to the encoder's checkpoint."
        )
    return CheckedTokenIds(FeatureSpec(adapter.fingerprint, limit))


def _forward(model: nn.Module, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """values: (N, L) ids, whatever stands beyond the lengths."""
    mask = torch.arange(values.shape[1], device=values.device) < lengths.to(values.device)[:, None]
    # RoBERTa counts positions by the padding id, and ours is 0 everywhere.
    ids = values.masked_fill(~mask, model.config.pad_token_id or 0)  # pyright: ignore
    return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask


register(
    Family(
        model_types=("bert", "roberta", "xlm-roberta", "camembert", "mpnet"),
        modalities=("text",),
        load=_load_bert,
        front_end=_front_end,
        forward=_forward,
        layers=lambda model: list(model.encoder.layer),  # pyright: ignore
        tail=lambda model: [],
        width=lambda config: config.hidden_size,
        pooling="mean",
    )
)
register(
    Family(
        model_types=("t5", "mt5"),
        modalities=("text",),
        load=_load_t5,
        front_end=_front_end,
        forward=_forward,
        layers=lambda model: list(model.encoder.block),  # pyright: ignore
        tail=lambda model: [model.encoder.final_layer_norm],  # pyright: ignore
        width=lambda config: config.d_model,
        pooling="mean",
    )
)
