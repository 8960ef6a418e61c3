"""Which recordings ``medley zeroshot`` looks at, and the classes they may be of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.commands.zeroshot.config import ZeroShotConfig
from benchmarks.runs.data import chosen_classes
from multimodal.errors import UserError
from multimodal.recordings import Manifest

QUICK_RECORDINGS = 200


class Chosen(NamedTuple):
    """classes: the candidates. rows: (N,) int64, ascending. split: what they are of, in words."""

    classes: tuple[int, ...]
    rows: np.ndarray
    split: str


def chosen(config: ZeroShotConfig, manifest: Manifest) -> Chosen:
    """Those that are named, or that scenes are composed of. UserError: none."""
    if config.compose is not None:
        return _composed_of(config.compose.test_splits, manifest)
    split, names = config.split, config.classes
    rows = np.arange(len(manifest)) if split == "all" else manifest.indices(split)
    if names == "tested":
        tested = manifest.labels[rows]
        if manifest.multi_label:
            tested = np.flatnonzero((manifest.targets[rows] == 1).any(0))
        classes = tuple(int(c) for c in np.unique(tested))
    else:
        classes = chosen_classes(manifest, names)
    if names is not None and not manifest.multi_label:
        rows = rows[np.isin(manifest.labels[rows], classes)]
    if not len(rows):
        raise UserError(f"split={split}: dataset {manifest.name!r} has no such recordings.")
    if config.quick and len(rows) > QUICK_RECORDINGS:
        rows = rows[np.linspace(0, len(rows) - 1, QUICK_RECORDINGS).round().astype(int)]
    return Chosen(classes, rows, split)


def _composed_of(splits: tuple[str, ...], manifest: Manifest) -> Chosen:
    rows = np.flatnonzero(np.isin(manifest.splits.astype(str), splits))
    if not len(rows):
        raise UserError(
            f"compose.test_splits={','.join(splits)}: dataset {manifest.name!r} has no such "
            "recordings."
        )
    return Chosen(chosen_classes(manifest, None), rows, "+".join(splits))
