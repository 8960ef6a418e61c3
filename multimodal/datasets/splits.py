"""What readers share about splits and names: seeded or held out, known overlaps, class order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from multimodal.datasets.class_names import class_order as class_order  # also from here
from multimodal.datasets.class_names import look_alikes as look_alikes
from multimodal.datasets.class_names import shown as shown
from multimodal.datasets.drawn_splits import UNLABELLED as UNLABELLED
from multimodal.datasets.drawn_splits import seeded_split as seeded_split
from multimodal.datasets.drawn_splits import split_for_streams as split_for_streams
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, shared_groups

SEEDED = "seeded: "  # how the rule of a split that was drawn begins
# Runs of several seeds have one rule of the split: what is held out is drawn as their weights are.
BY_SEED = ", by the run's seed"


class Unverified(int):
    """A widely reported count that nobody here has checked: a mismatch is only a warning."""


def known_overlap(recordings: Iterable[Recording], known: Collection[str]) -> str:
    """Why official folds share groups, for ``Manifest.group_overlap``; "" if they share none.

    Also "" if another group than the ``known`` ones is shared: then the manifest refuses it.
    """
    splits: dict[str, set[str]] = {}
    for recording in recordings:
        splits.setdefault(recording.group, set()).add(recording.split)
    shared = sorted(group for group, sides in splits.items() if len(sides) > 1)
    if not shared or not set(shared) <= set(known):
        return ""
    return f"the official folds share the source recordings {', '.join(shared)}"


def shared_as_told(**fields: Any) -> Manifest:
    """A ``Manifest`` that tells of groups on both sides of its split in ``shared``."""
    try:
        return Manifest(**fields)
    except UserError as error:
        manifest = Manifest(**fields, shared=str(error))  # any other fault is one again
        assert shared_groups(manifest)
        return manifest


def refuse_held_out(
    setting: str, chosen: Collection[str], present: Sequence[str], *, kind: str, empty: str
) -> None:
    """UserError if ``chosen``, held out for test, is empty, unknown or all that there is.

    setting: the name of the setting that chooses them. present: the distinct ones in the data, in
    the order in which the message lists them. kind: what each of them is, e.g. "speaker". empty:
    how the message puts it that none is chosen.
    """
    unknown = sorted(set(chosen) - set(present))
    problem = ""
    if unknown:
        problem = f"there is no {kind} {unknown[0]!r}"
    elif not chosen:
        problem = empty
    elif set(chosen) == set(present):
        problem = f"no {kind} is left to train on"
    if problem:
        raise UserError(
            f"{setting} {list(chosen)}: {problem}; "
            f"{kind}s in the data: {', '.join(present) or 'none'}."
        )


def hashed_split(group: str, shares: Mapping[str, float], *, seed: int) -> str:
    """The split of a patient by SHA-256 of seed and name alone, whatever others are present.

    shares: of the splits other than train, whose sum is below 1.
    """
    digest = hashlib.sha256(repr((seed, group)).encode()).digest()
    place, edge = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for split, share in shares.items():
        edge += share
        if place < edge:
            return split
    return "train"


def hold_out_validation(
    manifest: Manifest,
    fraction: float,
    *,
    seed: int,
    by_group: bool = True,
    setting: str = "validation_fraction",
    classes: Collection[int] | None = None,
) -> Manifest:
    """Turn a share of the training recordings into a validation split.

    fraction: in [0, 1); 0, or a dataset with a validation split of its own, changes nothing.
    Stratified by class; whole groups only, unless ``by_group`` is False. seed: of the run.
    setting: the user's name of the fraction. classes: of the stream (None: all); recordings of none
    of them go where their group goes, or stay. UserError if a class cannot stand on both sides.
    """
    if fraction == 0 or len(manifest.indices("validation")):
        return manifest
    train, labels = manifest.indices("train"), manifest.main_labels(classes)
    if classes is not None:  # of other classes alone: out of the stream, and not to be stratified
        train = train[np.isin(labels[train], list(classes)) | (manifest.labels[train] < 0)]
    labels = labels[train]
    if not (labels >= 0).any():
        raise UserError(
            f"{setting}={fraction}: no training recording of {manifest.name!r} has a label, so "
            "none can be held out by class; add labels or set it to 0."
        )
    # Recordings without any label are no class that must stand on both sides.
    labels = np.where(labels < 0, np.bincount(labels[labels >= 0]).argmax(), labels)
    uids = manifest.columns.column("uid")
    try:
        sides = seeded_split(
            uids[train].tolist(),
            [manifest.class_names[label] for label in labels.tolist()],
            groups=manifest.groups[train].tolist() if by_group else None,
            test_fraction=fraction,
            seed=seed,
        )
    except UserError as error:
        raise UserError(
            f"{setting}={fraction}: no validation split can be held out of the "
            f"training recordings of {manifest.name!r} ({error})"
        ) from error
    splits = manifest.splits.copy()
    held = train[np.array(sides) == "test"]
    splits[held] = "validation"
    if by_group:  # with them what else is of their groups
        known = sorted(set(manifest.groups[held]) - {""})
        splits[np.isin(manifest.groups, known) & (splits == "train")] = "validation"
    overlap = manifest.group_overlap or ("" if by_group else "validation is of the same groups")
    rule = f"{manifest.split_rule}; validation: {fraction} of train{BY_SEED}"
    moved = manifest.columns.replace(split=splits)
    return replace(manifest, recordings=moved, group_overlap=overlap, split_rule=rule)
