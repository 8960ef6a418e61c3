"""Trained weights on disk, with a digest of the frozen ones beside them.

A frozen encoder is not written again with every model: the file holds the trained weights, the
buffers, and a digest of the frozen ones, which come back from the checkpoint that the config names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from multimodal.digests import DamagedFile, memory_of, read_tensors, write_tensors
from multimodal.errors import UserError

REMEDY = "restore it, or train the model again with --fresh"


def save_weights(model: nn.Module, path: Path, words: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file that ``load_weights`` reads back. words: kept with them."""
    write_tensors(path, trained_weights(model), {**(words or {}), "frozen": frozen_digest(model)})


def load_weights(model: nn.Module, path: Path) -> dict[str, str]:
    """Read weights into a model that was built from the same config; gives the words beside them.

    UserError: no such file, damaged, of other shapes, or trained beside other frozen weights.
    """
    try:
        tensors, words, _ = read_tensors(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: cannot be read ({error}); {REMEDY}.") from error
    except DamagedFile as error:
        raise DamagedFile(f"{error}; {REMEDY}.") from error
    own = trained_weights(model)
    other = [n for n, t in own.items() if n not in tensors or tensors[n].shape != t.shape]
    if other or len(tensors) != len(own):
        name = other[0] if other else sorted(set(tensors) - set(own))[0]
        shapes = [tuple(x[name].shape) if name in x else "absent" for x in (tensors, own)]
        raise UserError(
            f"{path}: does not fit the config beside it ({name}: {shapes[0]} in the file, "
            f"{shapes[1]} in the model); its checkpoints or settings have changed since."
        )
    if words.get("frozen") != frozen_digest(model):
        raise UserError(
            f"{path}: was trained beside other frozen weights than those that its config leads to "
            "now; restore the frozen checkpoint, or train the model again."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return words


def frozen_digest(model: nn.Module) -> str:
    """16 hex digits over every weight that is not trained."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            digest.update(memory_of(parameter))
    return digest.hexdigest()[:16]


def trained_weights(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: trained parameters and saved buffers, by name, not copied."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: t for name, t in module.state_dict().items() if name not in frozen}
