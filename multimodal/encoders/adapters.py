"""What becomes of LoRA adapters after training: folded into the weights that they adapt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.encoders.lora import LoraEncoder
from multimodal.errors import UserError

_NAME = "default"


def lora_layers(module: nn.Module) -> dict[str, Any]:
    """The adapted layers of all encoders with LoRA in a module, by name.

    UserError: adapters that are more than A and B (DoRA): these are not folded in one by one.
    """
    from peft.tuners.lora import LoraLayer

    found = {
        f"{place}.{name}": layer
        for place, part in module.named_modules()
        if isinstance(part, LoraEncoder)
        for name, layer in part.named_modules()
        if isinstance(layer, LoraLayer)
    }
    for name, layer in found.items():
        if layer.lora_variant.get(_NAME) is not None:
            kind = type(layer.lora_variant[_NAME]).__name__
            raise UserError(f"{name}: {kind} is no plain LoRA; use plain LoRA to merge adapters.")
    return found


def adapter_of(layers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Copies of A (rank, in) and B (out, rank) of each layer, by ``layer.A`` and ``layer.B``."""
    both = {"A": "lora_A", "B": "lora_B"}
    return {
        f"{name}.{letter}": getattr(layer, matrices)[_NAME].weight.detach().clone()
        for name, layer in layers.items()
        for letter, matrices in both.items()
    }


@torch.no_grad()
def fold(layers: Mapping[str, Any], adapter: Mapping[str, Tensor]) -> None:
    """W <- W + scaling B A in each layer, of an adapter as of ``adapter_of``.

    The same adapters in the same order give the same weights, bit for bit. The layers' own A and B
    are lost: they are the given ones afterwards.
    """
    for name, layer in layers.items():
        layer.lora_A[_NAME].weight.copy_(adapter[f"{name}.A"])
        layer.lora_B[_NAME].weight.copy_(adapter[f"{name}.B"])
        layer.get_base_layer().weight.add_(layer.get_delta_weight(_NAME))


@torch.no_grad()
def start_anew(layers: Mapping[str, Any], *, seed: int) -> None:
    """A as LoRA draws it (its own generator), B zero: the layers answer as their weights alone."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        fresh = torch.empty(layer.lora_A[_NAME].weight.shape)
        nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
        layer.lora_A[_NAME].weight.copy_(fresh)
        layer.lora_B[_NAME].weight.zero_()
