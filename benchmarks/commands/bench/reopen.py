"""Finished runs of ``medley bench``, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import classifier, learner_of
from benchmarks.commands.bench.warm_up import warm_up_config, warmed_weights
from benchmarks.config.loading import read_back
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE
from continual.learner import Learner, LearnerContext
from multimodal.digests import read_tensors
from multimodal.errors import UserError
from multimodal.modalities import Adapter
from multimodal.weights import frozen_digest


class ReopenedRun(NamedTuple):
    """A learner after its last experience, with what it was made from.

    learner: its model is on the device. weights: the file that it has them from; words: of it.
    """

    config: RunConfig
    adapter: Adapter
    class_names: tuple[str, ...]
    multi_label: bool
    learner: Learner
    weights: Path
    words: dict[str, str]


def reopen(folder: Path, device: torch.device) -> ReopenedRun:
    """The learner of a run's folder; UserError: files that are missing, damaged, or do not fit.

    It begins as the run's own began: what was never trained is what the seed, the checkpoint or
    the warm-up run (found in the same output folder) made.
    """
    config, result = read_back(RunConfig, folder, "run it again"), load_result(folder / RESULT_FILE)
    # As a run keeps them, or as MLflow does, which has one of them a folder.
    files = sorted((folder / "models").glob("experience_*.safetensors"))
    files = files or sorted(folder.glob("experience_*.safetensors"))
    if not files:
        raise UserError(
            f"{folder}: the run kept no model; run it again with tracking.log_models=true and "
            "--fresh."
        )
    weights, words, _ = read_tensors(files[-1])
    adapter: Adapter = config.modality.build()  # pyright: ignore[reportAttributeAccessIssue]
    names, multi_label = tuple(result.class_names), "per_class_auroc" in result.metrics
    with torch.random.fork_rng():  # what was never trained is as the seed of the run made it
        torch.manual_seed(config.seeds[0])
        warmed = _warmed(config, folder)
        model = classifier(config, adapter, len(names), multi_label, warmed, device)
        context = LearnerContext(
            model=model,
            seed=config.seeds[0],
            class_names=names,
            modality=config.modality.registered_name,
            trains=False,
        )
        learner = learner_of(config, context, device)
    if words.get("frozen", "") not in ("", frozen_digest(learner.model)):
        raise UserError(
            f"{files[-1]}: was trained beside other frozen weights than those that its config "
            "leads to now; restore the frozen checkpoint, or run it again with --fresh."
        )
    learner.load_weights(weights)
    return ReopenedRun(config, adapter, names, multi_label, learner, files[-1], dict(words))


def _warmed(config: RunConfig, folder: Path) -> dict[str, Tensor]:
    """Of the warm-up run that lies in the same output folder, if the config has one."""
    if config.warm_up is None:
        return {}
    own = warm_up_config(config)
    return warmed_weights(folder.parent.parent / own.experiment / own.cells()[0].hash)
