"""Image encoders: ViT and DeiT (Dosovitskiy et al. 2021; Touvron et al. 2021), DINOv2 with and
without registers (Oquab et al. 2023; Darcet et al. 2023). They read X-rays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from multimodal.batch import Batch, Features
from multimodal.encoders.families import Family, load_model, load_processor, register
from multimodal.errors import UserError
from multimodal.modalities import Adapter

# By Pillow's number, with torch's name of what transformers uses for it.
_FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class FeatureSpec:
    """What a checkpoint's preprocessor config asks of square images.

    resize: pixels (height, width) to resize to, None for no resizing. resample: torch's name of the
    filter, antialiased. crop: (height, width) to cut out of the centre, or None. scale: factor of
    grey values in 0..255. mean, deviation: subtracted and divided by afterwards, one a channel.
    """

    resize: tuple[int, int] | None
    resample: str
    crop: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, processor: Any, folder: Path) -> FeatureSpec:
        """From a transformers image or video processor; UserError if it asks for other steps."""
        resize = _pixels(processor.size) if processor.do_resize else None
        crop = _pixels(processor.crop_size) if processor.do_center_crop else None
        if processor.do_resize and (resize is None or processor.resample not in _FILTERS):
            raise UserError(
                f"{folder}: cannot resize as preprocessor_config.json says (size={processor.size}, "
                f"resample={processor.resample}); supported: height and width or shortest_edge, "
                "with resample 0 (nearest), 2 (bilinear) or 3 (bicubic)."
            )
        if resize and crop and (crop[0] > resize[0] or crop[1] > resize[1]):
            raise UserError(
                f"{folder}: preprocessor_config.json cuts {crop} pixels out of {resize}; correct "
                "size or crop_size."
            )
        normalize = processor.do_normalize
        return cls(
            resize=resize,
            resample=_FILTERS.get(processor.resample, ""),
            crop=crop,
            scale=float(processor.rescale_factor) if processor.do_rescale else 1.0,
            mean=tuple(processor.image_mean) if normalize else (0.0,),
            deviation=tuple(processor.image_std) if normalize else (1.0,),
        )

    def refuse(self, size: int, height: int, width: int, where: Path) -> None:
        """UserError if images would have to be enlarged, or do not fit the encoder.

        size: ``modality.size``. height, width: what the encoder reads, 0 for any.
        """
        made = self.crop or self.resize or (size, size)
        wanted = max(self.resize or made)
        if size < wanted:
            raise UserError(
                f"modality.size={size}: checkpoint {where} reads {wanted} pixels a side, and "
                f"enlarged images would have no detail; set modality.size={wanted}."
            )
        if height and made != (height, width):
            raise UserError(
                f"{where}: images of {made} pixels do not fit an encoder of {(height, width)}; "
                f"correct preprocessor_config.json or set modality.size={height}."
            )


class Pixels(nn.Module):
    """Square images -> what the checkpoint's own processor makes of them, on their device."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        for name in ("mean", "deviation"):
            values = torch.tensor(getattr(spec, name)).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def extra_repr(self) -> str:
        return str(self.spec)

    def forward(self, images: Tensor) -> Tensor:
        """(M, C, S, S) uint8, or float in 0..255 -> (M, C or 3, height, width) float32."""
        if self.spec.resize is not None and images.shape[2:] != self.spec.resize:
            # On a CPU, torch resizes bytes without turning them into floats.
            through_float = images.dtype == torch.uint8 and images.device.type != "cpu"
            images = _resized(images, self.spec.resize, self.spec.resample, through_float)
        if self.spec.crop is not None:
            height, width = self.spec.crop
            top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
            images = images[:, :, top : top + height, left : left + width]
        return (images.to(torch.float32) * self.spec.scale - self.mean) / self.deviation


class ImageFeatures(nn.Module):
    """Front end of X-rays: values (N, channels, height, width), lengths (N,) = height."""

    def __init__(self, spec: FeatureSpec, channels: int) -> None:
        super().__init__()
        self.pixels, self.channels = Pixels(spec), channels

    def forward(self, batch: Batch) -> Features:
        """``batch.inputs``: (N, 1, size, size) in [0, 1]; the grey channel is repeated."""
        values = self.pixels(batch.inputs * 255)
        values = values.expand(-1, self.channels, -1, -1)
        return Features(values, torch.full_like(batch.lengths, values.shape[2]))


def _pixels(size: Any) -> tuple[int, int] | None:
    """(height, width) of a square image after resizing to a transformers size; None if unknown."""
    size = dict(size)
    edge = size.get("shortest_edge")
    height, width = (size.get("height") or edge, size.get("width") or edge)
    return (int(height), int(width)) if height and width and not size.get("longest_edge") else None


def _resized(images: Tensor, size: tuple[int, int], mode: str, through_float: bool) -> Tensor:
    """As torchvision, which the checkpoint's processor uses: bytes stay bytes, rounded."""
    exact = mode == "nearest-exact"
    resized = interpolate(
        images.float() if through_float else images,
        size,
        mode=mode,
        align_corners=None if exact else False,
        antialias=not exact,
    )
    return resized.clamp(0, 255).round().to(torch.uint8) if through_float else resized


def _load(folder: Path, config: Any) -> nn.Module:
    import transformers

    classes = {
        "vit": transformers.ViTModel,
        "deit": transformers.DeiTModel,
        "dinov2": transformers.Dinov2Model,
        "dinov2_with_registers": transformers.Dinov2WithRegistersModel,
    }
    # The pooler of a ViT belongs to its first pre-training task; DINOv2 has none.
    bare = {"add_pooling_layer": False} if config.model_type in ("vit", "deit") else {}
    return load_model(classes[config.model_type], folder, absent=("embeddings.mask_token",), **bare)


def _front_end(folder: Path, config: Any, adapter: Adapter) -> nn.Module:
    from transformers import AutoImageProcessor

    spec = FeatureSpec.of(
        load_processor(AutoImageProcessor, folder, "preprocessor_config.json"), folder
    )
    if len(spec.mean) not in (1, config.num_channels):
        raise UserError(
            f"{folder}: preprocessor_config.json has {len(spec.mean)} means for "
            f"{config.num_channels} channels; correct image_mean and image_std."
        )
    # DINOv2 interpolates its positions, so it reads any size.
    fixed = config.model_type in ("vit", "deit")
    size = config.image_size if fixed else 0
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    spec.refuse(adapter.config.size, height, width, folder)  # pyright: ignore
    return ImageFeatures(spec, config.num_channels)


def _forward(model: nn.Module, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    tokens = model(pixel_values=values).last_hidden_state
    return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def _layers(model: Any) -> list[nn.Module]:
    return list(model.layers if hasattr(model, "layers") else model.encoder.layer)


register(
    Family(
        model_types=("vit", "deit", "dinov2", "dinov2_with_registers"),
        modalities=("xray",),
        load=_load,
        front_end=_front_end,
        forward=_forward,
        layers=_layers,
        tail=lambda model: [model.layernorm],  # pyright: ignore
        width=lambda config: config.hidden_size,
        pooling="cls",
    )
)
