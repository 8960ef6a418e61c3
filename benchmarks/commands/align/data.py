"""What ``medley align`` reads: recordings of one modality, or cases of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.commands.align.config import AlignConfig
from benchmarks.runs.composed import Composed, items_to_tell_apart, pool_rows, training_scenes
from benchmarks.runs.data import Data, open_data, open_signals, read_manifest
from benchmarks.runs.inputs import Inputs, digests_file
from benchmarks.runs.shared_sound import SOUND, shared_sound
from multimodal.datasets import CasesConfig
from multimodal.datasets.case_table import as_table, of_modalities, with_digests
from multimodal.datasets.pairing import Cases
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.models.align_task import ABSENT
from multimodal.recordings import Manifest

QUICK_SCENES = 500


@dataclass(frozen=True)
class View:
    """Recordings of one modality. rows: (cases,) int64, the recording of each case, ``ABSENT``
    where it has none; None: every recording is a case.
    """

    data: Data
    rows: np.ndarray | None = None

    def recordings(self, cases: np.ndarray) -> np.ndarray:
        """Distinct recordings of these cases, ascending."""
        if self.rows is None:
            return np.unique(cases)
        found = np.unique(self.rows[cases])
        return found[found != ABSENT]


@dataclass(frozen=True)
class AlignData:
    """What the cells share. manifest: of the cases. embeddings, encoded: as in ``Data``.

    cases: as they were paired, of several modalities. inputs: digests of what the manifest does not
    tell of. scenes: composed of the recordings, to be trained on, with twins (True) for objectives
    that ask for signals beside each, or without; items: scenes to be told apart;
    shared_sound: what recordings of both are made of (``runs.shared_sound``), of sound.
    """

    manifest: Manifest
    views: Mapping[str, View]
    cases: Cases | None = None
    inputs: Inputs = field(default_factory=dict)
    embeddings: dict[str, EmbeddingCache] = field(default_factory=dict)
    encoded: dict[str, Tensor] = field(default_factory=dict)
    scenes: Mapping[bool, Composed] = field(default_factory=dict)
    items: Composed | None = None
    shared_sound: Mapping[str, Any] | None = None

    @property
    def skipped(self) -> int:
        """Damaged recordings left out."""
        return sum(len(view.data.signals.damaged) for view in self.views.values())

    @property
    def folder(self) -> Path | None:
        """Of signals and embeddings on disk."""
        return next(iter(self.views.values())).data.folder

    def usable(self, cases: np.ndarray) -> np.ndarray:
        """Those of which something can be decoded, in the given order."""
        if self.cases is None:
            (view,) = self.views.values()
            return view.data.signals.usable(cases)
        rows = np.stack([view.rows[cases] for view in self.views.values() if view.rows is not None])
        return cases[(rows != ABSENT).any(axis=0)]

    def lengths(self, cases: np.ndarray) -> np.ndarray:
        """Of the signals, for batches of similar length; cases of several modalities have none."""
        if self.cases is not None:
            return np.ones(len(cases), dtype=np.int64)
        (view,) = self.views.values()
        return view.data.signals.lengths(cases)

    def longest(self, cases: np.ndarray) -> dict[str, str]:
        """By "longest.MODALITY", the steps of the longest signal."""
        found = {name: (v.data.signals, v.recordings(cases)) for name, v in self.views.items()}
        return {
            f"longest.{name}": str(signals.lengths(rows).max())
            for name, (signals, rows) in found.items()
            if len(rows)
        }

    def facts(self) -> dict[str, Any]:
        """What a result tells of the cases."""
        if self.cases is None:
            return {}
        each = list(self.cases.pairs_per_patient.values()) or [0]
        per = {"median": float(np.median(each)), "most": max(each), "patients": len(each)}
        left_out = dict(self.cases.left_out)
        return {"cases": self.cases.counts, "per_patient": per, "left_out": left_out}


def open_align(config: AlignConfig) -> AlignData:
    """The dataset of a config, its recordings decoded lazily; UserError if it does not fit."""
    if config.views:
        return _open_cases(config)
    manifest = read_manifest(config)
    data = open_data(config, manifest, features=config.compose is None)
    return AlignData(manifest, {manifest.modality: View(data)}, encoded=data.encoded)


def decode(data: AlignData, *, skip_damaged: bool) -> AlignData:
    """The same, everything decoded; recordings that cannot be are absent if they are skipped."""
    views = {}
    for name, view in data.views.items():
        signals = view.data.signals
        every = view.recordings(np.arange(len(data.manifest)))
        signals.ensure(every)
        rows = view.rows
        if rows is not None and skip_damaged and signals.damaged:
            rows = np.where(np.isin(rows, list(signals.damaged)), ABSENT, rows)
        views[name] = View(view.data, rows)
    return AlignData(data.manifest, views, data.cases, data.inputs, data.embeddings, data.encoded)


def with_scenes(config: AlignConfig, data: AlignData) -> AlignData:
    """The same with what ``compose`` asks for, if anything."""
    if config.compose is None:
        return data
    ((modality, view),) = data.views.items()
    names, signals, compose = data.manifest.class_names, view.data.signals, config.compose
    if config.quick:
        compose = compose.model_copy(update={"scenes": min(compose.scenes, QUICK_SCENES)})
    words = dict(zip(names, config.prompts.load(modality).words(names), strict=True))
    # A cell's scenes are its own affair: they do not depend on what else the config trains.
    asked = {bool(objective.extra_signals) for objective in config.objectives}  # pyright: ignore
    scenes = {paired: training_scenes(compose, signals, words, paired=paired) for paired in asked}
    items, shared = items_to_tell_apart(compose, signals, words), None
    if modality in SOUND:
        sides = (signals, pool_rows(signals, ("train",)))
        shared = shared_sound(sides, (signals, pool_rows(signals, compose.test_splits)))
    return replace(data, scenes=scenes, items=items, shared_sound=shared)


def _open_cases(config: AlignConfig) -> AlignData:
    dataset = config.dataset
    if not isinstance(dataset, CasesConfig):
        raise UserError(
            f"views: dataset {dataset.registered_name!r} has one modality; set modality and "
            "encoder instead, or name a dataset of cases (synthetic_patients, paired)."
        )
    cases = with_digests(dataset.build_cases(config.dataset_root()), digests_file(config))
    other = sorted(set(config.views) - set(cases.modalities))
    if other or len(config.views) < 2:
        raise UserError(
            f"views: {', '.join(other) or ', '.join(config.views)}; dataset {cases.name!r} holds "
            f"{', '.join(cases.modalities)}: name two of them or more."
        )
    if set(config.views) != set(cases.modalities):
        cases = of_modalities(cases, tuple(config.views))
    views = {
        name: View(
            open_signals(config, cases.manifests[name], view.modality, view.encoder),
            cases.rows[name],
        )
        for name, view in config.views.items()
    }
    inputs = {
        f"dataset.{name}": manifest.files_hash
        for name, manifest in cases.manifests.items()
        if manifest.has_files
    }
    return AlignData(as_table(cases), views, cases, inputs)
