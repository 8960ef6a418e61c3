"""Optimiser parts: groups without decay, warm-up and cosine, an exponential moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for AdamW, of parameters that are trained: matrices decay; vectors and scalars
    (biases, norms, the scale of cosines) do not.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def learning_rate_factor(step: int, *, total: int, warmup: int) -> float:
    """Factor of the rate at step 0 to total - 1: (step + 1) / warmup while it warms up, then
    (1 + cos(pi t)) / 2 with t from 0 to 1 over what is left, so the step after the last has 0.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2


class MovingAverage:
    """theta' <- d theta' + (1 - d) theta after every step t (from 0), of trained parameters.

    d = min(decay, (1 + t) / (10 + t)), so that the start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._own = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._shadow = {name: p.detach().clone() for name, p in self._own.items()}

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, parameter in self._own.items():
            self._shadow[name].lerp_(parameter, 1 - decay)
        self.steps += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights inside."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's weights and the averaged ones."""
        for name, parameter in self._own.items():
            kept = parameter.detach().clone()
            parameter.copy_(self._shadow[name])
            self._shadow[name].copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "shadow": self._shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, tensor in self._shadow.items():
            tensor.copy_(state["shadow"][name])
