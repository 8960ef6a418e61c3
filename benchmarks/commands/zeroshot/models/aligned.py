"""Models that ``medley align`` trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from benchmarks.commands.align.reopen import finished_runs, reopen
from benchmarks.commands.align.start import MODEL_FILE
from benchmarks.commands.zeroshot.models import MODELS, ModelConfig, OpenModel
from multimodal.errors import UserError
from multimodal.evaluation.protocols import Protocol

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


@MODELS.register("aligned")
class AlignedModelConfig(ModelConfig):
    """The finished runs of ``medley align``. experiment: theirs, or several experiments. run: only
    the one of this hash.
    """

    experiment: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    run: str | None = Field(default=None, pattern="^[0-9a-f]{12}$")

    def single(self, output_dir: Path) -> list[ModelConfig]:
        named = (self.experiment,) if isinstance(self.experiment, str) else self.experiment
        return [
            self.model_copy(update={"experiment": experiment, "run": name})
            for experiment in named
            for name in finished_runs(output_dir / experiment, self.run)
        ]

    def files(self, output_dir: Path) -> list[Path]:
        assert self.run is not None
        assert isinstance(self.experiment, str)
        folder = output_dir / self.experiment / self.run
        return [folder / "config.yaml", folder / MODEL_FILE]

    def open(
        self, output_dir: Path, protocol: Protocol, *, device: torch.device, seed: int
    ) -> OpenModel:
        assert self.run is not None
        assert isinstance(self.experiment, str)
        folder = output_dir / self.experiment / self.run
        config, adapters, model, _ = reopen(folder, device)
        if len(adapters) > 1:
            raise UserError(
                f"model.experiment: {folder} aligns {', '.join(adapters)}; its own table has their "
                "zero-shot scores, and `medley predict --view` names recordings of one of them."
            )
        ((modality, adapter),) = adapters.items()
        objective = config.objectives[0]
        settings = {k: v for k, v in config.dump().items() if k in ("encoder", "text", "width")}
        return OpenModel(
            label=objective.registered_name,
            seed=config.seeds[0],
            adapter=adapter,
            modalities=(modality,),
            embed=lambda batch, uids: model.embed_signals(batch),
            embed_texts=model.embed_texts,
            prompts=config.prompts.load(modality),
            facts={"name": f"{self.experiment}/{self.run}", "config": config.dump()},
            settings={**settings, "objective": objective.dump()},
            aligned=model,
        )
