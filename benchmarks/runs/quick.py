"""What a quick run reads of a large dataset: some of every class, so that it is done in minutes."""

from __future__ import annotations

import numpy as np

from multimodal.recordings import Manifest

RECORDINGS = 500  # of a split
OF_A_CLASS = 8  # at least, of a split


def quick_part(manifest: Manifest) -> Manifest:
    """The manifest itself, or about RECORDINGS of each split of more: as many of each class, evenly
    spread over the table, never fewer than OF_A_CLASS where there are so many.
    """
    rows = quick_rows(manifest.splits, manifest.labels)
    return manifest if len(rows) == len(manifest) else manifest.select(rows)


def quick_rows(splits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows to keep, ascending, int64. splits, labels: (N,) names, and main classes (-1: none)."""
    kept = []
    for split in np.unique(splits):
        own = np.flatnonzero(splits == split)
        if len(own) <= RECORDINGS:
            kept.append(own)
            continue
        classes = np.unique(labels[own])
        most = max(OF_A_CLASS, RECORDINGS // len(classes))
        kept += [_spread(own[labels[own] == c], most) for c in classes]
    return np.sort(np.concatenate(kept))


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
