"""What is kept of composed scenes beside their signals: an object a scene, for JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from multimodal.composition.plan import Pool
from multimodal.composition.scenes import Scenes, claims


def described(scenes: Scenes, pool: Pool, *, notice: str = "") -> Iterator[dict[str, Any]]:
    """Of each scene its hash, expression, length, events, and captions with what they claim.

    Times in seconds. Events stand in the order of their letters; claims name them by number, as
    [kind, events, events]. Everything composed is marked synthetic; notice: of the composer, what
    else a set must say of itself.
    """
    for row, digest in enumerate(scenes.hashes):
        sides = {
            side: [
                {"text": text, "expression": tree, "claims": [list(c) for c in claims(tree)]}
                for text, tree in zip(texts[row], trees[row], strict=True)
            ]
            for side, texts, trees in (
                ("positives", scenes.positives, scenes.positive_trees),
                ("negatives", scenes.negatives, scenes.negative_trees),
            )
        }
        yield {
            "hash": digest,
            "synthetic": True,
            **({"notice": notice} if notice else {}),
            "expression": scenes.expressions[scenes.expression[row]],
            "key": int(scenes.keys[row]),
            "seconds": int(scenes.totals[row]) / scenes.rate,
            "rate": scenes.rate,
            "gap": int(scenes.gap[row]) / scenes.rate,
            "fade": int(scenes.fade[row]) / scenes.rate,
            "events": _events(scenes, pool, row),
            "caption": scenes.captions[row],
            **sides,
        }


def _events(scenes: Scenes, pool: Pool, row: int) -> list[dict[str, Any]]:
    return [
        {
            "label": pool.names[pool.labels[snippet]],
            "words": pool.phrases[snippet],
            "source": pool.sources[snippet],
            "recording": int(pool.recordings[snippet]),
            "start": int(scenes.starts[row, slot]) / scenes.rate,
            "seconds": int(scenes.lengths[row, slot]) / scenes.rate,
            "loops": int(scenes.loops[row, slot]),
            "onset": int(scenes.onsets[row, slot]) / scenes.rate,
            "offset": int(scenes.offsets[row, slot]) / scenes.rate,
            "gain_db": float(scenes.gain_db[row, slot]),
        }
        for slot, snippet in enumerate(scenes.snippets[row].tolist())
        if snippet >= 0
    ]
