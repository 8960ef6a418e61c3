"""What a run tells of itself: its config, its data, its tags, its texts."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.base import CommandConfig
from benchmarks.runs import machine
from benchmarks.runs.data import Data
from benchmarks.tracking.state import shown
from benchmarks.tracking.tracker import NullTracker, Tracker
from continual.scenarios import Stream
from multimodal.errors import UserError
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


def public(config: CommandConfig) -> dict[str, Any]:
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


def started(
    tracker: Tracker,
    config: CommandConfig,
    labels: dict[str, str],
    facts: dict[str, Any],
    folder: Path,
) -> Tracker:
    """The tracker, started; one that does nothing if the store was lost since it was checked.

    Stores are checked before a grid begins, and a run is worth more than its tracking.
    """
    try:
        tracker.start(public(config), labels, facts)
    except UserError as error:
        print(
            f"medley: {error} This run goes on untracked; send it later with "
            f"`medley report --resend {folder}`.",
            file=sys.stderr,
        )
        return NullTracker()
    return tracker


def align_facts(manifest: Manifest, skipped: int) -> dict[str, Any]:
    """The ``dataset`` part of a result."""
    facts = {name: getattr(manifest, name) for name in DATASET_FACTS}
    return {**facts, "num_recordings": len(manifest), "skipped_damaged": skipped}


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
    names = json.dumps([manifest.recordings[i].uid for i in rows])
    return {
        "split": split,
        "num_recordings": len(rows),
        "recordings_hash": hashlib.sha256(names.encode()).hexdigest()[:16],
    }
