"""What a run tells of itself: its config, its data, its tags, its texts."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from benchmarks.config.base import CommandConfig
from benchmarks.runs import machine
from multimodal.evaluation.prompts import PLACEHOLDER, Prompts
from multimodal.recordings import Manifest

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


def dataset_facts(manifest: Manifest, split: Manifest, skipped: int) -> dict[str, Any]:
    """The ``dataset`` part of a result.

    manifest: as read. split: the same with validation held out, whose rule of the split it tells.
    skipped: damaged recordings left out.
    """
    facts = {name: getattr(manifest, name) for name in DATASET_FACTS}
    facts |= {name: getattr(split, name) for name in ("split_rule", "group_overlap")}
    if manifest.has_files:
        facts["files_hash"] = manifest.files_hash
    return {**facts, "num_recordings": len(manifest), "skipped_damaged": skipped}


def tags(
    config: CommandConfig, manifest: Manifest, *, learner: str, scenario: str, seed: int
) -> dict[str, str]:
    """Tags of the MLflow run of one cell."""
    commit = machine.git_commit()
    values = {
        "medley.config_hash": config.hash,
        "medley.learner": learner,
        "medley.scenario": scenario,
        "medley.dataset": manifest.name,
        "medley.dataset_content_hash": manifest.content_hash,
        "medley.modality": manifest.modality,
        "medley.seed": str(seed),
        "medley.quick": str(config.quick).lower(),
    }
    if manifest.has_files:
        values["medley.dataset_files_hash"] = manifest.files_hash
    return {**values, "medley.git_commit": commit} if commit else values


def text_pins(prompts: Prompts, names: list[str]) -> dict[str, Any]:
    """The exact texts: templates byte for byte, the words of each class, and their hash."""
    words = [texts[0] for texts in prompts.single(PLACEHOLDER).texts(names)]
    return {
        "templates": list(prompts.templates),
        "label_text": dict(zip(names, words, strict=True)),
        "class_prompts": {name: list(texts) for name, texts in prompts.class_prompts.items()},
        "prompts_hash": prompts.hash,
    }


def row_pins(manifest: Manifest, rows: np.ndarray, split: str) -> dict[str, Any]:
    """Which recordings: the split, their number, and a hash of their names in order."""
    names = json.dumps(manifest.columns.column("uid")[rows].tolist())
    return {
        "split": split,
        "num_recordings": len(rows),
        "recordings_hash": hashlib.sha256(names.encode()).hexdigest()[:16],
    }
