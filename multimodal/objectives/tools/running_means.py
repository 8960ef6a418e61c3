"""Running means of the trained weights of modules, as networks of their own without gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class RunningMeans(nn.Module):
    """``mean <- decay mean + (1 - decay) weight`` at each ``update``; they start as the weights.

    Kept as buffers, so they are saved with what they stand in and never trained. Weights that are
    not trained, and buffers, are the module's own.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        super().__init__()
        self.decay = decay
        for name, module in modules.items():
            for number, weight in enumerate(_trained(module).values()):
                self.register_buffer(f"{name}-{number}", weight.detach().clone())

    @torch.no_grad()
    def of(self, name: str, module: nn.Module, *args: Any) -> Any:
        """What ``module`` would say with the means of its weights."""
        return functional_call(module, self._means(name, module), args)

    @torch.no_grad()
    def update(self, modules: Mapping[str, nn.Module]) -> None:
        for name, module in modules.items():
            means = self._means(name, module)
            for key, weight in _trained(module).items():
                means[key].lerp_(weight, 1 - self.decay)

    def _means(self, name: str, module: nn.Module) -> dict[str, Tensor]:
        return {key: self.get_buffer(f"{name}-{i}") for i, key in enumerate(_trained(module))}


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
