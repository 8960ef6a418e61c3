"""A classifier's head out of an aligned model: cosines with one vector a class."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize


class CosineHead(nn.Module):
    """(N, D) embeddings of an encoder -> (N, C) float64: ``scale`` (cos(P e + shift, class vector)
    - offset). Not trained.

    projection P: (J, D); shift: (J,); classes: (C, J), of length 1; scale: (). offset: (C,), of
    several labels the cosine from which on a class is said to be present, so that its sigmoid is
    0.5 there; None: 0, as for one label, whose softmax needs none.
    """

    projection: Tensor
    shift: Tensor
    classes: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        projection: Tensor,
        shift: Tensor,
        classes: Tensor,
        scale: Tensor,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        tensors = {"projection": projection, "shift": shift, "classes": classes, "scale": scale}
        for name, tensor in tensors.items():
            self.register_buffer(name, torch.as_tensor(tensor).detach().clone())
        own = torch.zeros(len(classes)) if offset is None else offset.detach().clone()
        self.register_buffer("offset", own, persistent=offset is not None)

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        return self.scale.double() * (self.cosines(features) - self.offset.double())

    def cosines(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """(N, C) float64, without scale and offset."""
        joint = features.double() @ self.projection.double().T + self.shift.double()
        return normalize(joint, dim=1) @ self.classes.double().T
