"""What ``medley zeroshot`` evaluates: our aligned runs, a checkpoint with two towers, or a
transcriber before a text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.evaluation.prompts import Prompts
from multimodal.evaluation.protocols import Protocol
from multimodal.modalities import Adapter
from multimodal.models.towers import Aligned
from multimodal.registry import Config, Registry

MODELS = Registry("model", "benchmarks.commands.zeroshot.models")
EmbedSignals = Callable[[Batch, Sequence[str]], Tensor]


@dataclass(frozen=True)
class OpenModel:
    """A model ready to embed. label, seed: of its row. modalities: of datasets that it reads.

    embed: batch and the names of its recordings -> (N, D). embed_texts: n texts -> (n, D).
    prompts: its own, if it was trained with some. facts: what a result pins of it. settings: those
    that tell rows apart. at_once: recordings that it embeds together at most; None: any number.
    heard: names of recordings -> their transcripts, if it makes some, of all that it has embedded.
    aligned: its towers; cells share what frozen ones make of recordings and texts.
    """

    label: str
    seed: int
    adapter: Adapter
    modalities: tuple[str, ...]
    embed: EmbedSignals
    embed_texts: Callable[[Sequence[str]], Tensor]
    prompts: Prompts | None
    facts: dict[str, Any]
    settings: dict[str, Any]
    at_once: int | None = None
    heard: Mapping[str, str] | None = None
    aligned: Aligned | None = None


class ModelConfig(Config):
    """Base of the configs of models."""

    def single(self, output_dir: Path) -> list[ModelConfig]:
        """One config a model; UserError if there is none."""
        raise NotImplementedError

    def files(self, output_dir: Path) -> list[Path]:
        """Of a single model, those that make it and that its settings do not name."""
        return []

    def open(
        self, output_dir: Path, protocol: Protocol, *, device: torch.device, seed: int
    ) -> OpenModel:
        """UserError: files that are missing, damaged, or do not fit."""
        raise NotImplementedError
