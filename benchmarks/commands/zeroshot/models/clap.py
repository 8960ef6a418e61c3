"""CLAP checkpoints of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.commands.zeroshot.models import MODELS, EmbedSignals, ModelConfig, OpenModel
from multimodal.batch import Batch
from multimodal.evaluation.protocols import Protocol
from multimodal.evaluation.windows import embed_windows, through_int16

if TYPE_CHECKING:
    from multimodal.encoders.clap_pair import ClapPair


@MODELS.register("clap")
class ClapModelConfig(ModelConfig):
    """A CLAP checkpoint of transformers, without fusion, with both projections.

    checkpoint: a folder, or a name on the hub with revision, its commit's 40 hexadecimal digits.
    """

    checkpoint: str
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")

    def single(self, output_dir: Path) -> list[ModelConfig]:
        return [self]

    def open(
        self, output_dir: Path, protocol: Protocol, *, device: torch.device, seed: int
    ) -> OpenModel:
        from multimodal.encoders.clap_pair import open_clap

        pair, adapter = open_clap(self.checkpoint, self.revision)
        pair = pair.to(device).eval()
        return OpenModel(
            label=Path(self.checkpoint).name,
            seed=0,
            adapter=adapter,
            modalities=("audio", "speech"),
            embed=_through_windows(pair, protocol, seed),
            embed_texts=pair.embed_texts,
            prompts=None,
            facts=pair.facts(),
            settings=self.dump(),
        )


def _through_windows(pair: ClapPair, protocol: Protocol, seed: int) -> EmbedSignals:
    """Recordings of any length through the checkpoint's window, as the protocol says."""
    front_end = pair.front_end(protocol.fill)

    def windows(signals: Tensor, lengths: Tensor) -> Tensor:
        nothing = torch.zeros_like(lengths)
        return pair.embed_signals(Batch(signals, lengths, nothing, nothing), front_end)

    def embed(batch: Batch, uids: Sequence[str]) -> Tensor:
        return embed_windows(
            windows,
            through_int16(batch.inputs) if protocol.int16 else batch.inputs,
            batch.lengths,
            uids,
            window=pair.features.spec.window,
            crop=protocol.crop,
            seed=seed,
            draws=protocol.draws,
        )

    return embed
