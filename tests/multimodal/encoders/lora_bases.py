"""Small encoders of every family to wrap, and a LoRA around one with some update in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multimodal.batch import Features
from multimodal.encoders import Encoder
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.lora import LoraEncoder
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.text import TextConfig
from multimodal.modalities.video import VideoConfig
from multimodal.modalities.xray import XrayConfig
from tests.multimodal.encoders import audio_checkpoints
from tests.multimodal.encoders.checkpoints import (
    save_image_checkpoint,
    save_text_checkpoint,
    save_video_checkpoint,
)

RANK, ALPHA = 3, 4.0

Made = tuple[Encoder, Features]


def features_of(values: Tensor, axis: int) -> Features:
    return Features(values, torch.full((len(values),), values.shape[axis]))


def compact(folder: Path) -> Made:
    torch.manual_seed(0)
    encoder = CompactEncoder(6, width=16, depth=2, heads=2, dropout=0.1)
    return encoder, features_of(torch.randn(2, 6, 20), 2)


def text(model_type: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        save_text_checkpoint(folder, model_type)
        adapter = TextConfig(tokenizer=str(folder), max_length=32).build()
        encoder = PretrainedConfig(checkpoint=str(folder)).build(adapter)
        return encoder, Features(*adapter.tokenize(["sound of a dog", "rain"]))

    return make


def image(model_type: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        save_image_checkpoint(folder, model_type)
        encoder = PretrainedConfig(checkpoint=str(folder)).build(XrayConfig(size=32).build())
        return encoder, features_of(torch.randn(2, 3, 28, 28), 2)

    return make


def video(folder: Path) -> Made:
    save_video_checkpoint(folder)
    encoder = PretrainedConfig(checkpoint=str(folder)).build(VideoConfig(frames=4, size=16).build())
    return encoder, features_of(torch.randn(2, 3, 4, 16, 16), 2)


def sound(save: Callable[..., Any], *kind: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        save(folder, *kind)
        rate = json.loads((folder / "preprocessor_config.json").read_text())["sampling_rate"]
        adapter, config = AudioConfig(sample_rate=rate).build(), PretrainedConfig
        front_end = config(checkpoint=str(folder)).front_end(adapter)
        batch = audio_checkpoints.batch_of(audio_checkpoints.clips_of())
        return config(checkpoint=str(folder)).build(adapter), front_end(batch)

    return make


BASES: dict[str, tuple[Callable[[Path], Made], set[str]]] = {
    "compact": (compact, {"linear1", "linear2"}),
    "bert": (text("bert"), {"query", "value"}),
    "mpnet": (text("mpnet"), {"q", "v"}),
    "t5": (text("t5"), {"q", "v"}),
    "vit": (image("vit"), {"q_proj", "v_proj"}),
    "dinov2": (image("dinov2"), {"q_proj", "v_proj"}),
    "videomae": (video, {"query", "value"}),
    "wav2vec2": (sound(audio_checkpoints.waveform), {"q_proj", "v_proj"}),
    "wavlm": (
        sound(audio_checkpoints.waveform, "WavLM"),
        {"intermediate_dense", "output_dense", "projection"},
    ),
    "whisper": (sound(audio_checkpoints.whisper), {"q_proj", "v_proj"}),
    "ast": (sound(audio_checkpoints.ast), {"q_proj", "v_proj"}),
    "clap": (sound(audio_checkpoints.clap), {"query", "value"}),
}


def wrap(base: Encoder, **changes: Any) -> LoraEncoder:
    return LoraEncoder(base, **{"rank": RANK, "alpha": ALPHA, **changes})


def pooled(encoder: Any, features: Features) -> Tensor:
    return encoder(*features).pooled


def update(encoder: LoraEncoder, seed: int = 0) -> None:
    """Some B; A is random from the start."""
    generator = torch.Generator().manual_seed(seed)
    for name, weights in encoder.named_parameters():
        if ".lora_B." in name:
            with torch.no_grad():
                weights.copy_(torch.randn(weights.shape, generator=generator))
