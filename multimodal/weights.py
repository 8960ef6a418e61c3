"""Trained weights on disk, with a digest of the frozen ones beside them.

A frozen encoder is not written again with every model: the file holds the trained weights, the
buffers, and a digest of the frozen ones, which come back from the checkpoint that the config names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from multimodal.errors import UserError


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a safetensors file that ``load_weights`` reads back."""
    # Copies, because safetensors refuses weights that two modules share.
    tensors = {
        name: tensor.detach().cpu().clone() for name, tensor in trained_weights(model).items()
    }
    save_file(tensors, path, {"frozen": frozen_digest(model)})


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a model that was built from the same config.

    UserError: no such file, damaged, of other shapes, or trained beside other frozen weights.
    """
    try:
        with safe_open(path, "pt") as file:
            digest = (file.metadata() or {}).get("frozen")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); train the model again.") from error
    own = trained_weights(model)
    other = [n for n, t in own.items() if n not in tensors or tensors[n].shape != t.shape]
    if other or len(tensors) != len(own):
        name = other[0] if other else sorted(set(tensors) - set(own))[0]
        shapes = [tuple(x[name].shape) if name in x else "absent" for x in (tensors, own)]
        raise UserError(
            f"{path}: does not fit the config beside it ({name}: {shapes[0]} in the file, "
            f"{shapes[1]} in the model); its checkpoints or settings have changed since."
        )
    if digest != frozen_digest(model):
        raise UserError(
            f"{path}: was trained beside other frozen weights than those that its config leads to "
            "now; restore the frozen checkpoint, or train the model again."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def frozen_digest(model: nn.Module) -> str:
    """16 hex digits over every weight that is not trained."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            flat = parameter.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
    return digest.hexdigest()[:16]


def trained_weights(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: trained parameters and saved buffers, by name, not copied."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: t for name, t in module.state_dict().items() if name not in frozen}
