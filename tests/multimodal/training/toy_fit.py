"""A fit of two small towers over random vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.objectives import Loss
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.tools.gather import world_size
from multimodal.training.config import FitConfig
from multimodal.training.fit import Fit

COUNT = 22


class Pair:
    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    def to(self, device: Any, non_blocking: bool = False) -> Pair:
        return Pair(self.a.to(device), self.b.to(device))

    def pin_memory(self) -> Pair:
        return Pair(self.a.pin_memory(), self.b.pin_memory())


class Toy:
    """Two small towers over random vectors."""

    smallest_batch = 2

    def __init__(self, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module = nn.ModuleDict(
            {
                "a": nn.Sequential(nn.Linear(6, 8), nn.Dropout(dropout), nn.Linear(8, 4)),
                "b": nn.Linear(6, 4),
            }
        )
        self.module.register_parameter("log_scale", nn.Parameter(torch.tensor(1.0)))
        random = torch.Generator().manual_seed(1)
        self.data = torch.randn(2, COUNT, 6, generator=random)

    def load(self, rows: np.ndarray) -> Pair:
        at = torch.from_numpy(rows)
        return Pair(self.data[0, at], self.data[1, at])

    def embed(self, batch: Pair) -> tuple[Tensor, ...]:
        return self.module["a"](batch.a), self.module["b"](batch.b)

    def loss(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> Loss:
        scale = self.module.get_parameter("log_scale").exp()
        return info_nce(*embeddings, scale, gather=world_size() > 1)

    def after_step(self) -> None:
        with torch.no_grad():
            self.module.get_parameter("log_scale").clamp_(0, 2)


def config_of(**changes: Any) -> FitConfig:
    fields = {"epochs": 3, "batch_size": 8, "device": "cpu", "learning_rate": 0.01}
    return FitConfig(**{**fields, **changes})


def fit_of(task: Toy | None = None, seed: int = 1, **changes: Any) -> Fit:
    listening = {k: changes.pop(k) for k in ("validate", "after_step") if k in changes}
    rows = np.arange(COUNT)
    return Fit(
        task or Toy(),
        config_of(**changes),
        rows=rows,
        lengths=1 + rows % 5,
        seed=seed,
        meaning_of=[f"class {row % 4}" for row in rows],
        **listening,
    )


def weights(fit: Fit) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in fit.module.parameters()])
