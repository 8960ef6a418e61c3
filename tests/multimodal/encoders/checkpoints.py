"""Tiny random checkpoints, written as transformers writes real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from multimodal.batch import Batch

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
WORDS = ("heart", "lung", "sound", "of", "a", "dog", "bell", "rain", "##s")
# By model type: where the tokenizer has its special tokens.
SPECIALS = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "mpnet": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "t5": ("<pad>", "</s>", "<unk>"),
}
NAMES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "mpnet": "MPNet",
    "t5": "T5",
    "mt5": "MT5",
}


def save_image_checkpoint(folder: Path, model_type: str, **processor: Any) -> Any:
    """A ViT of 28 x 28 pixels or a DINOv2, and its processor; returns the whole model."""
    torch.manual_seed(1)
    config = {
        "vit": transformers.ViTConfig,
        "deit": transformers.DeiTConfig,
        "dinov2": transformers.Dinov2Config,
        "dinov2_with_registers": transformers.Dinov2WithRegistersConfig,
    }[model_type](image_size=28, patch_size=14, **SIZES)
    # With a classifier, as hub checkpoints have it: the encoder must be found inside.
    classes: Any = {
        "vit": transformers.ViTForImageClassification,
        "deit": transformers.DeiTForImageClassification,
        "dinov2": transformers.Dinov2ForImageClassification,
        "dinov2_with_registers": transformers.Dinov2WithRegistersForImageClassification,
    }
    model = classes[model_type](config).eval()
    _save(model, folder)
    edge = {"height": 28, "width": 28}
    dino = model_type.startswith("dinov2")
    maker: Any = transformers.BitImageProcessor if dino else transformers.ViTImageProcessor
    defaults = {"size": {"shortest_edge": 32}, "crop_size": edge} if dino else {"size": edge}
    maker(**{**defaults, **processor}).save_pretrained(folder)
    return model


def save_video_checkpoint(folder: Path, **config: Any) -> Any:
    """A VideoMAE of 4 frames of 16 x 16 pixels; returns the model."""
    torch.manual_seed(1)
    settings = {"image_size": 16, "patch_size": 8, "num_frames": 4, "tubelet_size": 2, **config}
    model = transformers.VideoMAEModel(transformers.VideoMAEConfig(**SIZES, **settings)).eval()
    _save(model, folder)
    size = {"height": 16, "width": 16}
    transformers.VideoMAEImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(
        folder
    )
    return model


def save_text_checkpoint(folder: Path, model_type: str, words: tuple[str, ...] = WORDS) -> Any:
    """A text encoder and its tokenizer; returns the model as transformers made it."""
    torch.manual_seed(1)
    tokenizer = save_tokenizer(folder, model_type, words)
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config_class = getattr(transformers, f"{NAMES[model_type]}Config")
    if model_type in ("t5", "mt5"):
        config = config_class(d_model=32, d_kv=16, d_ff=64, num_layers=3, num_heads=2, **common)
        kind = "ForConditionalGeneration"
    else:
        config = config_class(max_position_embeddings=40, **SIZES, **common)
        kind = "ForMaskedLM"
    model = getattr(transformers, NAMES[model_type] + kind)(config)
    _save(model.eval(), folder)
    return model


def save_tokenizer(folder: Path, model_type: str, words: tuple[str, ...] = WORDS) -> Any:
    """Whole words; specials in front, and around each text as the model type has them."""
    model_type = {"mt5": "t5", "xlm-roberta": "roberta", "camembert": "roberta"}.get(
        model_type, model_type
    )
    specials = SPECIALS[model_type]
    unknown = next(s for s in specials if "unk" in s.lower())
    ids = {token: i for i, token in enumerate([*specials, *words])}
    raw = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    first, last = {"bert": ("[CLS]", "[SEP]"), "t5": ("", "</s>")}.get(model_type, ("<s>", "</s>"))
    around = [(t, ids[t]) for t in (first, last) if t]
    raw.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single=f"{first} $A {last}".strip(), special_tokens=around
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]" if model_type == "bert" else "<pad>",
        unk_token=unknown,
        model_max_length=32,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def batch_of(inputs: Tensor, lengths: Tensor | None = None) -> Batch:
    """Labels are zero; lengths 1 where nothing is padded."""
    count = len(inputs)
    lengths = torch.ones(count, dtype=torch.int64) if lengths is None else lengths
    return Batch(inputs, lengths, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def _save(model: Any, folder: Path) -> None:
    # Fresh weights are so small that errors would not show.
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(folder)
