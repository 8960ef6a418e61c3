"""The heads that the tuned CLIP of ``clip_rocket.py`` trains beside the model: local ones, and
projectors and predictors of what is added to it.

Layers between are normalised by the row, not by the batch as published: values then depend neither
on who else is in a part of the batch, nor on which process holds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from multimodal.objectives.clip_rocket import Pair
from multimodal.objectives.tools.running_means import RunningMeans
from multimodal.objectives.views import TEXT, Own, Pairs


class Heads(Own):
    """local, projector, predictor: by view. scale: of the local space, learned as its logarithm
    and kept within 1 and ``max_scale``.

    widths: view -> E. width: D of all heads. projectors, predictors: whether there are any; a
    predictor reads what a projector gives. decay: of the running means of projectors, or None.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        width: int,
        *,
        scale: float,
        learn_scale: bool,
        max_scale: float,
        projectors: bool = False,
        predictors: bool = False,
        decay: float | None = None,
    ) -> None:
        super().__init__()
        self.local = nn.ModuleDict(
            {name: nn.Linear(wide, width, bias=False) for name, wide in widths.items()}
        )
        self.projector = nn.ModuleDict(
            {name: _layers(wide, width) for name, wide in widths.items()} if projectors else {}
        )
        self.predictor = nn.ModuleDict(
            {name: _layers(width, width) for name in widths} if predictors else {}
        )
        self.means = None if decay is None else RunningMeans(_by_name(self.projector), decay)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn_scale)
        self.max_scale = max_scale

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @torch.no_grad()
    def after_step(self) -> None:
        if self.log_scale.requires_grad:
            self.log_scale.clamp_(0.0, math.log(self.max_scale))
        if self.means is not None:
            self.means.update(_by_name(self.projector))

    def local_pairs(self, pairs: Pairs) -> list[Pair]:
        """Of each augmented view (N, D), with the text, which is the same in all."""
        signals, text = self._views(pairs, self.local)
        return [(signal, text) for signal in signals[1:]]

    def projected_pairs(self, pairs: Pairs) -> list[Pair]:
        """Of the recording as it is, then of each augmented view: (N, D), with the text."""
        signals, text = self._views(pairs, self.projector)
        return [(signal, text) for signal in signals]

    def averaged_pairs(self, pairs: Pairs) -> list[Pair]:
        """As ``projected_pairs``, of running means of encoders and projectors, without gradient."""
        assert self.means is not None
        assert pairs.averaged is not None
        seen, said = (x.detach().to(self.log_scale.dtype) for x in pairs.averaged)
        signals = self.means.of(pairs.name, self.projector[pairs.name], seen)
        text = self.means.of(TEXT, self.projector[TEXT], said)
        return [(signal, text) for signal in signals.unbind(1)]

    def predicted(self, pairs: Pairs, found: Pair) -> Pair:
        """Of the projections of a signal and its text the predictions."""
        signal, text = found
        return self.predictor[pairs.name](signal), self.predictor[TEXT](text)

    def _views(self, pairs: Pairs, heads: nn.ModuleDict) -> tuple[list[Tensor], Tensor]:
        assert pairs.features is not None
        kind = self.log_scale.dtype  # the heads are float32 under autocast too
        signals = heads[pairs.name](pairs.features.to(kind))
        return list(signals.unbind(1)), heads[TEXT](pairs.source.to(kind))


def _by_name(modules: nn.ModuleDict) -> dict[str, nn.Module]:
    return dict(modules.items())


def _layers(wide: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(wide, width, bias=False),
        nn.LayerNorm(width),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
    )
