"""Is a test clip part of the training pool under another name? What a run tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from multimodal.bars import bar
from multimodal.evaluation.fingerprints import Fingerprint, fingerprint, overlap
from multimodal.signals import SignalCache

SOUND = ("audio", "speech")
NAMED = 20


def shared_sound(
    train: tuple[SignalCache, np.ndarray], test: tuple[SignalCache, np.ndarray]
) -> dict[str, Any]:
    """Of recordings (a cache and its rows, without damaged ones) of a training pool and of a test,
    by ``evaluation.fingerprints``.

    clips: test recordings of which the pool holds a part; of: all; unchecked: those with too little
    sound to be found; pairs: [training recording, test recording, share of bits that differ,
    seconds into the first at which the second starts], the first ``NAMED``.
    """
    found = overlap(*(_fingerprints(*side) for side in (train, test)))
    names = [[cache.manifest.recordings[row].uid for row in rows] for cache, rows in (train, test)]
    several = zip(found.pairs, found.errors, found.offsets, strict=True)
    return {
        "clips": found.count,
        "of": len(test[1]),
        "unchecked": len(found.unchecked),
        "pairs": [
            [names[0][i], names[1][j], round(error, 4), round(offset, 2)]
            for (i, j), error, offset in list(several)[:NAMED]
        ],
    }


def told(shared: Mapping[str, Any]) -> str:
    """In a line; "" if nothing is shared."""
    if not shared["clips"]:
        return ""
    (train, test, *_), *_ = shared["pairs"]
    return (
        f"{shared['clips']} of {shared['of']} test recordings share sound with the training pool "
        f"(as {test!r} with {train!r}): leave them out, or tell of it beside the scores; "
        "result.json names them"
    )


def _fingerprints(signals: SignalCache, rows: np.ndarray) -> list[Fingerprint]:
    rate = signals.adapter.config.sample_rate  # pyright: ignore[reportAttributeAccessIssue]
    found = []
    with bar("fingerprints", len(rows)) as advance:
        for row in rows.tolist():
            batch = signals.gather([row])
            found.append(fingerprint(batch.inputs[0, :, : int(batch.lengths[0])], rate))
            advance()
    return found
