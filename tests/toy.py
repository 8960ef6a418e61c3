"""A tiny dataset of tones, registered from outside the tree as a user's plug-in would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.recordings import Manifest, Recording

RATE = 16_000


def tone(pitch: float, seconds: float, seed: int) -> np.ndarray:
    """(1, T) a noisy sine."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.02, len(time))
    return (0.5 * np.sin(2 * np.pi * pitch * time) + noise).astype(np.float32)[None]


def toy_manifest(
    *, num_classes: int = 4, train: int = 8, test: int = 4, groups: int = 4
) -> Manifest:
    """Class c is a tone of 300 (c + 1) Hz; the speakers of train and test differ."""
    rows = []
    for label in range(num_classes):
        for split, count in (("train", train), ("test", test)):
            for i in range(count):
                number = len(rows)

                def make(label: int = label, number: int = number) -> np.ndarray:
                    return tone(300.0 * (label + 1), 0.1 + 0.01 * (number % 5), number)

                group = f"{split}-{i % groups}"
                uid = f"{label}/{split}/{i:03d}"
                rows.append(Recording(uid, (label,), split, group=group, make=make))
    names = tuple(f"tone_{c}" for c in range(num_classes))
    return Manifest("toy", "speech", names, tuple(rows), "1", split_rule="by speaker")


def toy_chords(*, num_classes: int = 4, train: int = 24, test: int = 12) -> Manifest:
    """Multi-label: class c sounds at 300 (c + 1) Hz; chords of no to three classes."""
    rows = []
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            rng = np.random.default_rng([split == "test", i])
            present = tuple(np.flatnonzero(rng.random(num_classes) < 0.4).tolist())
            # The first recordings make sure that every class is there, alone.
            labels = (i,) if i < num_classes else present[:3]

            def make(labels: tuple[int, ...] = labels, seed: int = i) -> np.ndarray:
                chord = tone(0.0, 0.15, seed)
                return sum((tone(300.0 * (c + 1), 0.15, seed) / 3 for c in labels), chord)

            uid, group = f"{split}/{i:03d}", f"{split}-{i % 4}"
            rows.append(Recording(uid, labels, split, group=group, make=make))
    names = tuple(f"tone_{c}" for c in range(num_classes))
    return Manifest("chords", "speech", names, tuple(rows), "1", split_rule="by speaker")


@DATASETS.register("toy_chords")
class ToyChordsConfig(DatasetConfig):
    """Chords of tones."""

    synthetic: ClassVar[bool] = True
    summary: ClassVar[str] = "noisy chords"

    shared_groups: bool = False

    def build(self, root: Path) -> Manifest:
        return shared(toy_chords()) if self.shared_groups else toy_chords()


@DATASETS.register("toy")
class ToyConfig(DatasetConfig):
    """Tones."""

    synthetic: ClassVar[bool] = True
    summary: ClassVar[str] = "noisy tones"

    num_classes: int = 4
    train: int = 8
    test: int = 4
    shared_groups: bool = False

    def build(self, root: Path) -> Manifest:
        manifest = toy_manifest(num_classes=self.num_classes, train=self.train, test=self.test)
        return shared(manifest) if self.shared_groups else manifest


def shared(manifest: Manifest) -> Manifest:
    """The same recordings by speakers that stand on both sides of the split."""
    rows = tuple(replace(r, group=r.group.split("-")[1]) for r in manifest)
    return replace(manifest, recordings=rows, split_rule="", group_overlap="speakers are shared")


def toy_data(**changes: object) -> dict[str, object]:
    """A small config as plain data."""
    data: dict[str, object] = {
        "experiment": "toy",
        "dataset": "toy",
        "scenario": {"name": "class_incremental", "num_experiences": 2},
        "encoder": {"name": "compact", "width": 16, "depth": 1, "heads": 2},
        "learners": ["finetune"],
        "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "checkpoint_every": 3},
        "tracking": {"store": "none"},
    }
    return {**data, **changes}
