"""Finished runs of ``medley align``, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.parts import build_model
from benchmarks.commands.align.start import MODEL_FILE, start_folder
from benchmarks.config.loading import read_back
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE
from multimodal.errors import UserError
from multimodal.modalities import Adapter
from multimodal.models.towers import Aligned
from multimodal.weights import load_weights


class Reopened(NamedTuple):
    """A trained model in evaluation mode, with what it was made from.

    adapters: by modality. words: of its file.
    """

    config: AlignConfig
    adapters: dict[str, Adapter]
    model: Aligned
    words: dict[str, str]


def finished_runs(folder: Path, run: str | None = None) -> list[str]:
    """Finished runs in an experiment's folder, in the order in which they were started.

    run: only the one of this name. UserError if there is none.
    """
    files = sorted(folder.glob(f"{run or '*'}/{RESULT_FILE}"))
    found = [(load_result(f).started, f.parent.name) for f in files if _has_model(f.parent)]
    if not found:
        raise UserError(
            f"{folder}: no finished run of `medley align` in it; train one first, such as "
            "`medley align configs/align/spoken_commands_cwcl.yaml`, or correct "
            "model.experiment."
        )
    return [name for _, name in sorted(found, key=lambda x: x[0])]


def reopen(folder: Path, device: torch.device) -> Reopened:
    """The model of a run's folder; UserError: files that are missing, damaged, or do not fit.

    It begins as the run's own began: a frozen encoder without a checkpoint is what the seed made.
    """
    config = read_back(AlignConfig, folder, "train the model again")
    adapters: dict[str, Adapter] = {
        name: view.modality.build()  # pyright: ignore[reportAttributeAccessIssue]
        for name, view in config.towers.items()
    }
    with torch.random.fork_rng():
        torch.manual_seed(config.seeds[0])
        model = build_model(config, adapters, start=_start(config))
    words = load_weights(model, folder / MODEL_FILE)
    return Reopened(config, adapters, model.to(device).eval(), words)


def _start(config: AlignConfig) -> Path | None:
    """What the run began as, if it is still there: it matters where that was frozen afterwards, and
    then ``load_weights`` misses it.
    """
    try:
        return start_folder(config)
    except UserError:
        return None


def _has_model(folder: Path) -> bool:
    return (folder / MODEL_FILE).is_file()
