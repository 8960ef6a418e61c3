"""What a run tells of itself: its data, its tags and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.config import RunConfig
from benchmarks.result import Result
from benchmarks.tracking_data import shown
from continual import metrics
from continual.scenarios import Stream
from multimodal.modalities import Adapter
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache

DATASET_FACTS = (
    "name",
    "version",
    "content_hash",
    "split_rule",
    "licence",
    "citation",
    "synthetic",
    "group_overlap",
)


@dataclass(frozen=True)
class Data:
    """What the cells of a grid share: the dataset, its adapter and the decoded signals."""

    manifest: Manifest
    adapter: Adapter
    signals: SignalCache


def public(config: RunConfig) -> dict[str, Any]:
    """The config as plain data without the password of a tracking store."""
    data = config.dump()
    if config.tracking.uri is not None:
        data["tracking"]["uri"] = shown(config.tracking.uri)
    return data


def dataset_facts(data: Data, stream: Stream) -> dict[str, Any]:
    """The ``dataset`` part of a result; the split rule is the stream's (validation held out)."""
    facts = {name: getattr(data.manifest, name) for name in DATASET_FACTS}
    facts |= {name: getattr(stream.manifest, name) for name in ("split_rule", "group_overlap")}
    counts = {"num_recordings": len(data.manifest), "skipped_damaged": len(data.signals.damaged)}
    return {**facts, **counts}


def tags(config: RunConfig, manifest: Manifest) -> dict[str, str]:
    """Tags of the MLflow run of one cell."""
    commit = machine.git_commit()
    values = {
        "medley.config_hash": config.hash,
        "medley.learner": config.learners[0].registered_name,
        "medley.scenario": config.scenario.registered_name,
        "medley.dataset": manifest.name,
        "medley.dataset_content_hash": manifest.content_hash,
        "medley.modality": config.modality.registered_name,
        "medley.seed": str(config.seeds[0]),
        "medley.quick": str(config.quick).lower(),
    }
    return {**values, "medley.git_commit": commit} if commit else values


def make_result(
    config: RunConfig,
    data: Data,
    stream: Stream,
    *,
    records: dict[str, Any],
    device: torch.device,
    started: str,
    seconds: float,
) -> Result:
    """records: ``matrix`` (rows of accuracies), ``confusion``, ``validation``, ``baseline``."""
    names = list(data.manifest.class_names)
    experiences = [
        {
            "name": e.name,
            "classes": [names[c] for c in e.classes],
            "num_train": len(e.train),
            "num_validation": len(e.validation),
            "num_test": len(e.test),
        }
        for e in stream.experiences
    ]
    sizes = [len(e.test) for e in stream.experiences]
    recalls = metrics.per_class_accuracy(np.array(records["confusion"])).tolist()
    return Result(
        experiment=config.experiment,
        config_hash=config.hash,
        learner=config.learners[0].registered_name,
        scenario=config.scenario.registered_name,
        modality=config.modality.registered_name,
        seed=config.seeds[0],
        quick=config.quick,
        dataset=dataset_facts(data, stream),
        class_names=names,
        experiences=experiences,
        metrics={
            **metrics.summary(records["matrix"], sizes, records["baseline"]),
            "accuracy_matrix": records["matrix"],
            "per_class_accuracy": {
                name: None if np.isnan(recall) else recall
                for name, recall in zip(names, recalls, strict=True)
            },
            "confusion_matrix": records["confusion"],
            "validation_accuracy": records["validation"],
        },
        config=public(config),
        hardware=machine.hardware(device),
        packages=machine.packages(),
        git_commit=machine.git_commit(),
        started=started,
        seconds=seconds,
        peak_memory_bytes=machine.peak_memory(device),
    )
