"""The ECG encoder of MoRE: two convolutions over all leads, then the blocks of ViT.

Thapa et al., arXiv:2410.16239 (a reconstruction; see ``blocks.py``). Token k reads samples 5k to
5k + 24 of all leads (at 100 Hz 250 ms, every 50 ms), so there is no token of a single lead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import relu

from multimodal.batch import Encoded
from multimodal.encoders import ENCODERS
from multimodal.encoders.blocks import Tower, TowerConfig
from multimodal.errors import UserError
from multimodal.modalities import Adapter

KERNEL, STRIDE = 5, 5
SHORTEST = KERNEL * STRIDE  # samples of one token
Norm = Literal["layer", "batch"]


@ENCODERS.register("ecg_transformer")
class EcgTransformerConfig(TowerConfig):
    """12-lead ECGs; modality {name: ecg, sample_rate: 100} as in MoRE.

    samples: of the recordings that positions are learned for, 10 s at 100 Hz. Shorter ones have
    fewer tokens; of longer ones positions are interpolated. norm: behind the two convolutions;
    batch, as published, follows the recordings of the moment, which a stream changes.
    """

    PAPER_CODE: ClassVar[Mapping[str, Any]] = {**TowerConfig.PAPER_CODE, "norm": "batch"}

    samples: int = Field(default=1000, ge=SHORTEST, le=1_000_000)
    norm: Norm = "layer"

    def build(self, adapter: Adapter) -> EcgTransformer:
        """UserError for another modality."""
        name = getattr(getattr(adapter, "config", None), "registered_name", "")
        if name != "ecg":
            raise UserError(
                f"encoder ecg_transformer reads ECGs (modality ecg), not {name}; use compact."
            )
        encoder = EcgTransformer(
            leads=adapter.channels, samples=self.samples, norm=self.norm, **self.tower
        )
        return encoder.requires_grad_(self.train == "all")


def tokens_of(samples: Any) -> Any:
    """Tokens of so many samples (a number, or a tensor of them) without the class token."""
    return samples // STRIDE - (KERNEL - 1)


class EcgTransformer(Tower):
    """(N, leads, T) features, zero beyond lengths (N,) -> Encoded of 1 + T // 5 - 4 tokens.

    An embedding does not depend on how far its batch was padded. ``norm`` batch: in training its
    statistics count the padding of shorter recordings as zeros. reads: samples of a token, and from
    one to the next.
    """

    reads = (SHORTEST, STRIDE)

    def __init__(
        self,
        *,
        leads: int = 12,
        samples: int = 1000,
        width: int = 192,
        depth: int = 4,
        heads: int = 3,
        dropkey: float = 0.2,
        schedule: Any = "linear",
        norm: Norm = "layer",
    ) -> None:
        sizes = {"width": width, "depth": depth, "heads": heads}
        super().__init__(tokens_of(samples), **sizes, dropkey=dropkey, schedule=schedule)
        middle = max(1, width // 3)
        self.stem = nn.ModuleList(
            [
                nn.Conv1d(leads, middle, KERNEL, stride=STRIDE),
                nn.Conv1d(middle, width, KERNEL),
            ]
        )
        made = nn.BatchNorm1d if norm == "batch" else nn.LayerNorm
        self.stem_norms = nn.ModuleList([made(middle), made(width)])
        self.initialise()

    def grid(self, shape: tuple[int, ...]) -> tuple[int]:
        """Tokens behind the class token, for features of this shape."""
        return (tokens_of(shape[2]),)

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """UserError for a recording that is too short for a token."""
        lengths = lengths.to(features.device)
        shortest = int(lengths.min())
        if shortest < SHORTEST:
            raise UserError(
                f"an ECG of {shortest} samples is too short for encoder ecg_transformer, whose "
                f"tokens are of {SHORTEST}; leave it out, or raise modality.sample_rate."
            )
        grid_NCT, valid = features, lengths // STRIDE
        for convolution, norm, lost in zip(
            self.stem, self.stem_norms, (0, KERNEL - 1), strict=True
        ):
            grid_NCT = _normed(norm, relu(convolution(grid_NCT)))
            valid_NT = _below(grid_NCT.shape[2], valid - lost)
            grid_NCT = grid_NCT * valid_NT[:, None]
        counts = tokens_of(lengths)
        places = self._places(counts, grid_NCT.shape[2]).to(grid_NCT.dtype)
        tokens_NPD = grid_NCT.transpose(1, 2) + places
        valid_NP = _below(grid_NCT.shape[2], counts)
        return self.encoded(tokens_NPD, None if valid_NP.all() else valid_NP)

    def _places(self, counts: Tensor, longest: int) -> Tensor:
        """(N, P, D) learned positions, drawn closer in recordings longer than ``samples``."""
        grid_PD = self.positions[1:]
        known = len(grid_PD)
        steps = torch.arange(longest, device=counts.device, dtype=torch.float32)
        if longest <= known:
            return grid_PD[:longest].expand(len(counts), -1, -1)
        scale = torch.clamp((known - 1) / (counts - 1).clamp(min=1), max=1.0)
        place_NP = (steps * scale[:, None]).clamp(max=known - 1)
        before = place_NP.floor().long()
        share_NP1 = (place_NP - before)[..., None]
        return torch.lerp(grid_PD[before], grid_PD[(before + 1).clamp(max=known - 1)], share_NP1)


def _normed(norm: nn.Module, grid_NCT: Tensor) -> Tensor:
    if isinstance(norm, nn.LayerNorm):
        return norm(grid_NCT.transpose(1, 2)).transpose(1, 2)
    return norm(grid_NCT)


def _below(steps: int, counts: Tensor) -> Tensor:
    """(N, steps) True below each count."""
    return torch.arange(steps, device=counts.device) < counts[:, None]
