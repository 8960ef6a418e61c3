"""Which caption belongs to which signal: the pool that retrieval searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from multimodal.errors import UserError


@dataclass(frozen=True, eq=False)
class CaptionPool:
    """A signals, each with at least one of C captions.

    texts: C captions. owner: (C,) int64, the signal of each, in [0, A). signals: A names. rows:
    (A,) int64, the first row of each signal in the table that the pool was made of: embed these.
    metrics: num_signals, num_captions, num_empty_captions (left out), num_signals_dropped (all of
    whose captions were empty), num_duplicate_captions (same text, same signal, beyond the first)
    and num_shared_captions (whose text another signal has too).
    """

    texts: tuple[str, ...]
    owner: np.ndarray
    signals: tuple[str, ...]
    rows: np.ndarray
    metrics: dict[str, int]


def caption_pool(
    texts: Sequence[str],
    signals: Sequence[str],
    *,
    captions: Literal["all", "first"] = "all",
    drop_empty: bool = False,
) -> CaptionPool:
    """texts: one caption a row. signals: the name of each row's signal; equal names, one signal.

    captions: ``all``, the protocol of DCASE and LAION, or only the ``first`` (not empty) one of
    each signal, a smaller pool that is easier to search: state which. drop_empty: leave captions
    without text out and count them; else they are a UserError, because a blank query almost always
    misses. Signals and captions keep their order.
    """
    if len(texts) != len(signals):
        raise UserError(f"{len(texts)} captions but {len(signals)} names of signals.")
    empty = [row for row, text in enumerate(texts) if not text.strip()]
    if empty and not drop_empty:
        listed = ", ".join(repr(signals[row]) for row in empty[:5])
        more = ", ..." if len(empty) > 5 else ""
        raise UserError(
            f"{len(empty)} of {len(texts)} captions are empty: of {listed}{more}; write them, "
            "or set drop_empty to leave them out."
        )
    place: dict[str, int] = {}
    rows, kept, owner = [], [], []
    for row, (text, name) in enumerate(zip(texts, signals, strict=True)):
        if not text.strip() or (captions == "first" and name in place):
            continue
        if name not in place:
            place[name] = len(rows)
            rows.append(row)
        kept.append(text)
        owner.append(place[name])
    if not kept:
        raise UserError("there are no captions to search; retrieval needs texts.")
    pairs = Counter(zip(kept, owner, strict=True))
    having = Counter(text for text, _ in pairs)
    metrics = {
        "num_signals": len(rows),
        "num_captions": len(kept),
        "num_empty_captions": len(empty),
        "num_signals_dropped": len(set(signals)) - len(rows),
        "num_duplicate_captions": len(kept) - len(pairs),
        "num_shared_captions": sum(having[text] > 1 for text in kept),
    }
    return CaptionPool(tuple(kept), np.array(owner), tuple(place), np.array(rows), metrics)
