"""Video encoders: VideoMAE (Tong et al. 2022), whose tokens are tubes of frames and pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.batch import Batch, Features
from multimodal.encoders.families import Family, load_model, load_processor, register
from multimodal.encoders.families.vision import FeatureSpec, Pixels
from multimodal.errors import UserError
from multimodal.modalities import Adapter


class ClipFeatures(nn.Module):
    """Front end of clips: values (N, 3, frames, height, width), lengths (N,) frames."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.pixels = Pixels(spec)

    def forward(self, batch: Batch) -> Features:
        """``batch.inputs``: (N, F, 3, size, size) uint8."""
        frames = self.pixels(batch.inputs.flatten(0, 1))
        values = frames.unflatten(0, batch.inputs.shape[:2]).transpose(1, 2)
        return Features(values, batch.lengths)


def _load(folder: Path, config: Any) -> nn.Module:
    from transformers import VideoMAEModel

    return load_model(VideoMAEModel, folder)


def _front_end(folder: Path, config: Any, adapter: Adapter) -> nn.Module:
    from transformers import AutoVideoProcessor

    modality: Any = adapter.config  # pyright: ignore
    if modality.frames != config.num_frames:
        raise UserError(
            f"modality.frames={modality.frames}: checkpoint {folder} reads clips of "
            f"{config.num_frames} frames; set modality.frames={config.num_frames}."
        )
    processor = load_processor(AutoVideoProcessor, folder, "preprocessor_config.json")
    spec = FeatureSpec.of(processor, folder)
    size = config.image_size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    spec.refuse(modality.size, height, width, folder)
    return ClipFeatures(spec)


def _forward(model: nn.Module, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens in the order of tubelets, then rows, then columns; there is no class token."""
    tokens = model(pixel_values=values.transpose(1, 2)).last_hidden_state
    return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def _tail(model: Any) -> list[nn.Module]:
    # Checkpoints that were tuned on the mean of the tokens have their norm in the classifier.
    return [] if model.layernorm is None else [model.layernorm]


register(
    Family(
        model_types=("videomae",),
        modalities=("video",),
        load=_load,
        front_end=_front_end,
        forward=_forward,
        layers=lambda model: list(model.encoder.layer),  # pyright: ignore
        tail=_tail,
        width=lambda config: config.hidden_size,
        pooling="mean",
    )
)
