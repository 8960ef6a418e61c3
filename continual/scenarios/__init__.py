"""Scenarios: from a Manifest to the stream of experiences a learner meets.

A registered scenario config's ``build(manifest, seed) -> Stream`` draws the stream as rows of the
manifest; it opens no signal. ``as_benchmark`` turns a Stream into an Avalanche benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Registry

SCENARIOS = Registry("scenario", "continual.scenarios")


@dataclass(frozen=True)
class Experience:
    """One step of a stream: int64 manifest rows to train on, to validate on and to test on.

    Of multi-label data, experiences may share validation and test recordings: each scores its own
    classes on them.
    """

    name: str
    classes: tuple[int, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Online:
    """What makes a stream online: recordings are met once, in the order of ``Experience.train``.

    Its experiences are tasks that learners are not told of, ``classes`` are those present in a
    task, and ``test`` holds the recordings of all classes met up to its end.

    iterations: optimiser steps a stream batch. eval_period: recordings between evaluations.
    disjoint, blurry: names of the classes that each task owns. leaked: rows that were re-dealt.
    redraws: draws that were thrown away. seed: of the draw. notes: what a user should know of it.
    """

    iterations: int
    eval_period: int
    disjoint: tuple[tuple[str, ...], ...]
    blurry: tuple[tuple[str, ...], ...]
    leaked: np.ndarray
    redraws: int
    seed: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """Experiences in the order in which learners meet them.

    held_out: classes that no experience shows, with their test recordings: a zero-shot task.
    parts: of it, tasks of their own (one a modality), in the order of the experiences.
    online: None where experiences may be trained on for several epochs.
    grouped: experiences are made of whole groups of classes, of which some may have no test
    recordings, and whose test recordings may be of classes that are never trained on.
    """

    manifest: Manifest
    experiences: tuple[Experience, ...]
    held_out: Experience | None = None
    online: Online | None = None
    grouped: bool = False
    parts: tuple[Experience, ...] = ()

    def __post_init__(self) -> None:
        check_stream(self)

    def __len__(self) -> int:
        return len(self.experiences)

    @property
    def rows(self) -> np.ndarray:
        """All manifest rows of the stream, ascending."""
        every = [*self.experiences, *([self.held_out] if self.held_out else [])]
        parts = [(e.train, e.validation, e.test) for e in every]
        return np.unique(np.concatenate([rows for part in parts for rows in part]))

    def classes_of(self, rows: np.ndarray) -> tuple[int, ...]:
        """Ascending classes of the experiences that the given training rows come from."""
        parts = [e for e in self.experiences if np.isin(e.train, rows).any()]
        return tuple(sorted({c for e in parts for c in e.classes}))


def check_stream(stream: Stream) -> None:
    """UserError if an experience cannot be trained on or tested, or a recording stands twice.

    Multi-label data: a class without test recordings, or present in all of them, cannot be scored;
    an experience needs one that can. So does one of grouped classes.
    """
    manifest, names = stream.manifest, stream.manifest.class_names
    if manifest.shared:
        raise UserError(manifest.shared)
    for experience in stream.experiences:
        if not experience.classes and stream.online is None:
            raise UserError(
                f"dataset {manifest.name!r}, experience {experience.name!r}: none of its training "
                "recordings has a label; leave it out or use another scenario."
            )
        for kind, rows in (("training", experience.train), ("test", experience.test)):
            have = _met(manifest, rows, both=kind == "test")
            missing = [names[c] for c in experience.classes if c not in have]
            lenient = kind == "test" and (manifest.multi_label or stream.grouped)
            lenient = lenient and not manifest.undrawn
            if missing and not (lenient and len(missing) < len(experience.classes)):
                raise UserError(
                    manifest.undrawn
                    or f"dataset {manifest.name!r}, experience {experience.name!r}: no {kind} "
                    f"recording of class {', '.join(missing)}; add recordings or drop the class."
                )
    _refuse_repeats(stream)


def _met(manifest: Manifest, rows: np.ndarray, *, both: bool) -> set[int]:
    """Classes that are present in some of the rows (both: and known to be absent in others)."""
    if not manifest.multi_label:
        return set(manifest.labels[rows].tolist())
    targets = manifest.targets[rows]
    met = (targets == 1).any(0) & ((targets == 0).any(0) | (not both))
    return set(np.flatnonzero(met).tolist())


def _refuse_repeats(stream: Stream) -> None:
    train = np.concatenate([e.train for e in stream.experiences])
    held = [r for e in stream.experiences for r in (e.validation, e.test)]
    if stream.manifest.multi_label or stream.online is not None:
        held = [np.unique(np.concatenate(held))]
    rows = np.concatenate([train, *held])
    assert len(np.unique(rows)) == len(rows), "a recording stands in two places of the stream"
