"""Optimiser parts: groups without decay, warm-up and cosine, an exponential moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# Layers whose matrices decay. What a module holds as a parameter of its own (prompts, positions,
# class tokens, scales) and embeddings are tables or factors: shrinking them is no regularisation.
DECAYING = (
    nn.Linear,
    nn.Bilinear,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for AdamW, of parameters that are trained.

    Matrices of linear, convolutional, attention and recurrent layers decay; biases, norms,
    embeddings, positions, prompts, tokens and scales do not.
    """
    return _divided(module, weight_decay, _matrices(module))


def load_optimizer(
    optimizer: torch.optim.Optimizer, module: nn.Module, state: dict[str, Any]
) -> None:
    """Go on from a checkpoint's ``state``, decaying what decayed when it was begun.

    Earlier versions divided the parameters otherwise: all but scalars decayed (``bench``), or all
    but vectors and scalars (``align``). Their runs end as they would have ended then.
    """
    sizes = [len(group["params"]) for group in state["param_groups"]]
    trained = [p for p in module.parameters() if p.requires_grad]
    rules = (
        _matrices(module),
        {id(p) for p in trained if p.ndim >= 2},
        {id(p) for p in trained if p.ndim >= 1},
    )
    for decaying in rules:
        groups = _divided(module, 0.0, decaying)
        if [len(group["params"]) for group in groups] == sizes:
            optimizer.param_groups.clear()
            for group in groups:
                optimizer.add_param_group(group)
            break
    optimizer.load_state_dict(state)


def _matrices(module: nn.Module) -> set[int]:
    return {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, DECAYING)
        for name, parameter in layer.named_parameters(recurse=False)
        if parameter.ndim >= 2 and "bias" not in name
    }


def _divided(module: nn.Module, weight_decay: float, decaying: set[int]) -> list[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in decaying], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in decaying], "weight_decay": 0.0},
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
