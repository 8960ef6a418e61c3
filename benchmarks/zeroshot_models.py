"""What ``medley zeroshot`` evaluates: our aligned runs, or a checkpoint with two towers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from pydantic import Field
from torch import Tensor

from benchmarks.results.result import RESULT_FILE, Result
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.evaluation.prompts import Prompts
from multimodal.evaluation.protocols import Protocol
from multimodal.evaluation.windows import embed_windows, through_int16
from multimodal.modalities import Adapter
from multimodal.registry import Config, Registry

if TYPE_CHECKING:
    from benchmarks.align_config import AlignConfig
    from multimodal.encoders.clap_pair import ClapPair

MODELS = Registry("model")
EmbedSignals = Callable[[Batch, Sequence[str]], Tensor]


@dataclass(frozen=True)
class OpenModel:
    """A model ready to embed. label, seed: of its row. modalities: of datasets that it reads.

    embed: batch and the names of its recordings -> (N, D). embed_texts: n texts -> (n, D).
    prompts: its own, if it was trained with some. facts: what a result pins of it. settings: those
    that tell rows apart.
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


class ModelConfig(Config):
    """Base of the configs of models."""

    def single(self, output_dir: Path) -> list[ModelConfig]:
        """One config a model; UserError if there is none."""
        raise NotImplementedError

    def open(
        self, output_dir: Path, protocol: Protocol, *, device: torch.device, seed: int
    ) -> OpenModel:
        """UserError: files that are missing, damaged, or do not fit."""
        raise NotImplementedError


@MODELS.register("aligned")
class AlignedModelConfig(ModelConfig):
    """The finished runs of ``medley align``. experiment: theirs. run: only the one of this hash."""

    experiment: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    run: str | None = Field(default=None, pattern="^[0-9a-f]{12}$")

    def single(self, output_dir: Path) -> list[ModelConfig]:
        folder = output_dir / self.experiment
        files = sorted(folder.glob(f"{self.run or '*'}/{RESULT_FILE}"))
        found = [(Result.load(f.parent), f.parent.name) for f in files if _has_model(f.parent)]
        if not found:
            raise UserError(
                f"{folder}: no finished run of `medley align` in it; train one first, such as "
                "`medley align configs/align/spoken_commands_cwcl.yaml`, or correct "
                "model.experiment."
            )
        found.sort(key=lambda x: x[0].started)
        return [self.model_copy(update={"run": name}) for _, name in found]

    def open(
        self, output_dir: Path, protocol: Protocol, *, device: torch.device, seed: int
    ) -> OpenModel:
        from benchmarks.align_parts import MODEL_FILE, build_model
        from multimodal.aligned_files import load_aligned

        assert self.run is not None
        folder = output_dir / self.experiment / self.run
        config = _read_config(folder / "config.yaml")
        modality: Any = config.modality
        adapter, name = modality.build(), modality.registered_name
        model = build_model(config, adapter)
        load_aligned(model, folder / MODEL_FILE)
        model = model.to(device).eval()
        settings = {k: v for k, v in config.dump().items() if k in ("encoder", "text", "width")}
        return OpenModel(
            label=config.objectives[0].registered_name,
            seed=config.seeds[0],
            adapter=adapter,
            modalities=(name,),
            embed=lambda batch, uids: model.embed_signals(batch),
            embed_texts=model.embed_texts,
            prompts=config.prompts.load(name),
            facts={"name": f"{self.experiment}/{self.run}", "config": config.dump()},
            settings={**settings, "objective": config.objectives[0].dump()},
        )


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


def _has_model(folder: Path) -> bool:
    from benchmarks.align_parts import MODEL_FILE

    return (folder / MODEL_FILE).is_file()


def _read_config(path: Path) -> AlignConfig:
    from benchmarks.align_config import AlignConfig

    try:
        return AlignConfig.parse(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read ({words}); train the model again.") from error
