"""Scenes of two recordings of a batch, for learners that compose in every step.

The plain form of the composers (``audio``, ``speech``, ``ecg``, ``video``, ``xray``): whole
recordings as they come, in one vectorised step on the batch's device, and captions of one wording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from multimodal.batch import Batch
from multimodal.composition.captions import written
from multimodal.composition.expressions import Tree, parse
from multimodal.composition.letterbox import letterboxed
from multimodal.composition.lexicons import LEXICONS, LexiconName, Wording
from multimodal.composition.xray import SEPARATOR

PEAK = 0.5
RAMP = 0.04  # of an ECG's length: the offset of a join is spread over it


class Pairs(NamedTuple):
    """n scenes: rows (n,) of a batch; together: at the same time, else ``second`` follows."""

    first: Int[Tensor, " scenes"]
    second: Int[Tensor, " scenes"]
    together: Bool[Tensor, " scenes"]


class Told(NamedTuple):
    """What is said of a scene. positives: true of less of it, or in another order of no matter."""

    main: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


class Composer(NamedTuple):
    """compose: (batch, pairs) -> inputs (n, ...) in the batch's form and lengths (n,). lexicon: of
    its captions; one without words for simultaneity has sequences only.
    """

    compose: Callable[[Batch, Pairs], tuple[Tensor, Tensor]]
    lexicon: LexiconName

    @property
    def overlays(self) -> bool:
        return bool(LEXICONS[self.lexicon].together)

    def told(self, first: str, second: str, *, together: bool) -> Told:
        """Captions of two events by their words."""
        lexicon = LEXICONS[self.lexicon]
        wording = Wording(next(iter(lexicon.order)), next(iter(lexicon.together), ""))

        def say(tree: Tree) -> str:
            return written(tree, wording, (first, second))

        in_order, turned = say(parse("A+B")), say(parse("B+A"))
        if together:
            both, alike = say(parse("A*B")), say(parse("B*A"))
            return Told(both, (alike, first, second), (in_order, turned))
        false = (turned, say(parse("A*B"))) if self.overlays else (turned,)
        return Told(in_order, (first, second), false)


def sounds(batch: Batch, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """(n, 1, T): of equal power, the shorter in the middle of the longer, or one behind the other;
    peak 0.5.
    """
    sizes = torch.stack([batch.lengths[pairs.first], batch.lengths[pairs.second]])
    longest, together = sizes.amax(0), pairs.together
    totals = torch.where(together, longest, sizes.sum(0))
    starts = torch.where(together, (longest - sizes) // 2, torch.stack([0 * longest, sizes[0]]))
    powers = batch.inputs.square().sum((1, 2)) / batch.lengths
    levels = powers.sqrt().clamp(min=1e-6)[:, None, None]
    even = batch.inputs / levels
    values = _placed(even, pairs.first, starts[0], sizes[0], int(totals.max()))
    values = values + _placed(even, pairs.second, starts[1], sizes[1], int(totals.max()))
    return values * (PEAK / values.abs().amax((1, 2), keepdim=True).clamp(min=1e-6)), totals


def rhythms(batch: Batch, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """(n, 12, T): one behind the other, in mV; the step of each lead's offset across the join is
    spread over a ramp, alike in all leads, so II stays I + III.
    """
    sizes = torch.stack([batch.lengths[pairs.first], batch.lengths[pairs.second]])
    longest = int(sizes.sum(0).max())
    first = _placed(batch.inputs, pairs.first, 0 * sizes[0], sizes[0], longest)
    second = _placed(batch.inputs, pairs.second, sizes[0], sizes[1], longest)
    places = sizes[0][:, None, None].expand(-1, first.shape[1], 1)
    step = second.gather(2, places) - first.gather(2, places - 1)
    ramp = (RAMP * sizes[1]).clamp(min=1)[:, None]
    since = torch.arange(longest, device=first.device) - sizes[0][:, None]
    left = ((1 - since / ramp).clamp(0, 1) * (since >= 0))[:, None]
    return first + second - step * left, sizes.sum(0)


def films(batch: Batch, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """(n, F, 3, H, W): every second frame of one and then of the other, or both side by side, the
    first on the left; F frames of each, as of the clips.
    """
    one, two = batch.inputs[pairs.first], batch.inputs[pairs.second]
    count = one.shape[1]
    every = ((torch.arange(count, device=one.device) + 0.5) * 2).long()
    follow = torch.cat([one, two], dim=1)[:, every]
    shared = _side_by_side(one, two)
    values = torch.where(pairs.together[:, None, None, None, None], shared, follow)
    return values, torch.full_like(pairs.first, count)


def pictures(batch: Batch, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """(n, 1, H, W): the first on the left, a grey separator between them, aspects kept."""
    both = _side_by_side(batch.inputs[pairs.first], batch.inputs[pairs.second])
    width = both.shape[-1]
    edge = max(1, round(SEPARATOR * width) // 2)
    both[..., width // 2 - edge : width // 2 + edge] = 0.5
    return both, torch.ones_like(pairs.first)


BY_MODALITY = {
    "audio": Composer(sounds, "time"),
    "speech": Composer(sounds, "time"),
    "ecg": Composer(rhythms, "order"),
    "video": Composer(films, "time"),
    "xray": Composer(pictures, "space"),
}


def _placed(inputs: Tensor, rows: Tensor, starts: Tensor, sizes: Tensor, longest: int) -> Tensor:
    """(n, C, longest): the first ``sizes`` steps of the rows, from ``starts`` on, else zeros."""
    places = torch.arange(longest, device=inputs.device) - starts[:, None]
    inside = (places >= 0) & (places < sizes[:, None])
    index = places.clamp(0, inputs.shape[2] - 1)[:, None].expand(-1, inputs.shape[1], -1)
    return inputs[rows].gather(2, index) * inside[:, None]


def _side_by_side(one: Tensor, two: Tensor) -> Tensor:
    """(..., C, H, W) of each -> the same shape: all of both, aspects kept, zeros around them."""
    *lead, channels, height, width = one.shape
    left = width // 2
    parts = [
        letterboxed(pictures.reshape(-1, channels, height, width).float(), height, size)
        for pictures, size in ((one, left), (two, width - left))
    ]
    both = torch.cat(parts, dim=-1)
    if not one.is_floating_point():
        both = both.round()
    return both.to(one.dtype).reshape(*lead, channels, height, width)
