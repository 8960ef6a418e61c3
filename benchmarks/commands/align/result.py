"""What an alignment run leaves behind."""

from __future__ import annotations

from typing import Any

from benchmarks.commands.align.config import AlignConfig
from benchmarks.results.result import Result
from benchmarks.runs import machine
from benchmarks.runs.data import Data
from benchmarks.runs.facts import align_facts, public
from multimodal.evaluation.scores import Scores
from multimodal.recordings import Manifest
from multimodal.training.fit import Fit

ALIGNMENT = "alignment"


def align_tags(config: AlignConfig, manifest: Manifest) -> dict[str, str]:
    """Tags of the MLflow run of one cell."""
    commit = machine.git_commit()
    values = {
        "medley.config_hash": config.hash,
        "medley.learner": config.objectives[0].registered_name,
        "medley.scenario": ALIGNMENT,
        "medley.dataset": manifest.name,
        "medley.dataset_content_hash": manifest.content_hash,
        "medley.modality": config.modality.registered_name,
        "medley.seed": str(config.seeds[0]),
        "medley.quick": str(config.quick).lower(),
    }
    return {**values, "medley.git_commit": commit} if commit else values


def align_result(
    config: AlignConfig,
    data: Data,
    manifest: Manifest,
    scores: Scores,
    *,
    evaluation: dict[str, Any],
    fit: Fit,
    started: str,
    seconds: float,
) -> Result:
    """manifest: with validation held out. evaluation: what the scores were measured with."""
    training = {"recordings_per_second": fit.throughput, "data_wait_share": fit.data_wait}
    return Result(
        experiment=config.experiment,
        config_hash=config.hash,
        learner=config.objectives[0].registered_name,
        scenario=ALIGNMENT,
        modality=config.modality.registered_name,
        seed=config.seeds[0],
        quick=config.quick,
        dataset=align_facts(manifest, len(data.signals.damaged)),
        class_names=list(manifest.class_names),
        experiences=[],
        metrics={**scores.metrics, **training},
        config=public(config),
        evaluation={**evaluation, **scores.details, "intervals": scores.intervals},
        hardware=machine.hardware(fit.device),
        packages=machine.packages(),
        git_commit=machine.git_commit(),
        started=started,
        seconds=seconds,
        peak_memory_bytes=machine.peak_memory(fit.device),
    )
