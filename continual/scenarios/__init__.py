"""Scenarios: from a Manifest to the stream of experiences a learner meets.

A registered scenario config's ``build(manifest, seed) -> Stream`` draws the stream as rows of the
manifest; it opens no signal. ``as_benchmark`` turns a Stream into an Avalanche benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from multimodal.datasets.splits import seeded_split
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Registry

SCENARIOS = Registry("scenario", "continual.scenarios")


@dataclass(frozen=True)
class Experience:
    """One step of a stream: int64 manifest rows to train on, to validate on and to test on."""

    name: str
    classes: tuple[int, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Stream:
    """Experiences in the order in which learners meet them."""

    manifest: Manifest
    experiences: tuple[Experience, ...]

    def __post_init__(self) -> None:
        check_stream(self)

    def __len__(self) -> int:
        return len(self.experiences)


def hold_out_validation(
    manifest: Manifest, fraction: float, *, seed: int, by_group: bool = True
) -> Manifest:
    """Turn a share of the training recordings into a validation split.

    fraction: in [0, 1); 0, or a dataset with a validation split of its own, changes nothing.
    Stratified by class; whole groups only, unless ``by_group`` is False. UserError if a class
    cannot stand on both sides.
    """
    if fraction == 0 or len(manifest.indices("validation")):
        return manifest
    rows = [r for r in manifest if r.split == "train"]
    try:
        sides = seeded_split(
            [r.uid for r in rows],
            [manifest.class_names[r.label] for r in rows],
            groups=[r.group for r in rows] if by_group else None,
            test_fraction=fraction,
            seed=seed,
        )
    except UserError as error:
        raise UserError(
            f"scenario.validation_fraction={fraction}: no validation split can be held out of the "
            f"training recordings of {manifest.name!r} ({error})"
        ) from error
    held = {r.uid for r, side in zip(rows, sides, strict=True) if side == "test"}
    moved = tuple(replace(r, split="validation") if r.uid in held else r for r in manifest)
    overlap = manifest.group_overlap or ("" if by_group else "validation is of the same groups")
    rule = f"{manifest.split_rule}; validation: {fraction} of train, seed {seed}"
    return replace(manifest, recordings=moved, group_overlap=overlap, split_rule=rule)


def check_stream(stream: Stream) -> None:
    """UserError if an experience cannot be trained on or tested, or a recording stands twice."""
    names = stream.manifest.class_names
    for experience in stream.experiences:
        for kind, rows in (("training", experience.train), ("test", experience.test)):
            have = set(stream.manifest.labels[rows].tolist())
            missing = [names[c] for c in experience.classes if c not in have]
            if missing:
                raise UserError(
                    f"dataset {stream.manifest.name!r}, experience {experience.name!r}: no {kind} "
                    f"recording of class {', '.join(missing)}; add recordings or drop the class."
                )
    parts = [r for e in stream.experiences for r in (e.train, e.validation, e.test)]
    rows = np.concatenate(parts)
    assert len(np.unique(rows)) == len(rows), "a recording stands in two places of the stream"
