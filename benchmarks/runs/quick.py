"""What a quick run reads of a large dataset: some of every class, so that it is done in minutes."""

from __future__ import annotations

import numpy as np

from multimodal.recordings import Manifest

RECORDINGS = 500  # of a split
OF_A_CLASS = 8  # at least, of a split
# Where learners may run a published encoder in every step, a second or more of a CPU for ten
# recordings: prompts change what it makes of them, so that its embeddings are in no cache.
DEAR_RECORDINGS = 50
OF_A_DEAR_CLASS = 4


def quick_part(manifest: Manifest, *, dear: bool = False) -> Manifest:
    """The manifest itself, or about RECORDINGS of each split of more: as many of each class, evenly
    spread over the table, never fewer than OF_A_CLASS where there are so many.

    dear: DEAR_RECORDINGS and OF_A_DEAR_CLASS instead. Other rows have another content hash, so a
    run that was made of more or fewer of them is refused as one of other data.
    """
    most = (DEAR_RECORDINGS, OF_A_DEAR_CLASS) if dear else (RECORDINGS, OF_A_CLASS)
    rows = quick_rows(manifest.splits, manifest.labels, *most)
    return manifest if len(rows) == len(manifest) else manifest.select(rows)


def quick_rows(
    splits: np.ndarray, labels: np.ndarray, recordings: int, of_a_class: int
) -> np.ndarray:
    """Rows to keep, ascending, int64. splits, labels: (N,) names, and main classes (-1: none)."""
    kept = []
    for split in np.unique(splits):
        own = np.flatnonzero(splits == split)
        if len(own) <= recordings:
            kept.append(own)
            continue
        classes = np.unique(labels[own])
        most = max(of_a_class, recordings // len(classes))
        kept += [_spread(own[labels[own] == c], most) for c in classes]
    return np.sort(np.concatenate(kept))


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
