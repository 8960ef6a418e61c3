"""A classifier's head out of an aligned model: cosines with one vector a class."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize


class CosineHead(nn.Module):
    """(N, D) embeddings of an encoder -> (N, C): ``scale`` cos(P e + shift, class vector). Not
    trained.

    projection P: (J, D); shift: (J,); classes: (C, J), of length 1; scale: ().
    """

    projection: Tensor
    shift: Tensor
    classes: Tensor
    scale: Tensor

    def __init__(self, projection: Tensor, shift: Tensor, classes: Tensor, scale: Tensor) -> None:
        super().__init__()
        tensors = {"projection": projection, "shift": shift, "classes": classes, "scale": scale}
        for name, tensor in tensors.items():
            self.register_buffer(name, torch.as_tensor(tensor).detach().clone())

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        joint = features.to(self.projection) @ self.projection.T + self.shift
        return self.scale * normalize(joint, dim=1) @ self.classes.T
