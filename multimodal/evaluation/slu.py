"""SLU-F1: how well the slots of spoken commands were filled (Bastianelli et al. 2020, SLURP).

A slot is (type, filler), for example ("event_name", "dance class"). A predicted slot whose type was
said counts as found, but as wrong by as much as its filler differs, once by words and once by
characters. The counts of both are added, as the official scorer of SLURP does; the mean of the two
F1 values is something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from multimodal.evaluation.word_errors import word_errors

Slots = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class SluScore:
    """f1, precision, recall: in [0, 1], 0 where undefined. The counts are over all types (micro
    average) and both distances: true_positives is twice the number of slots found, the other two
    are sums of distances and of slots that have no counterpart.
    """

    f1: float
    precision: float
    recall: float
    true_positives: int
    false_positives: float
    false_negatives: float


def slu_f1(gold: Sequence[Slots], predicted: Sequence[Slots]) -> SluScore:
    """gold, predicted: slots of each recording, in the order of the text; fillers in any case.

    For each predicted slot in order: of the gold slots of its type that are still unused the one
    with the smallest distance d (the first on ties) is used up, and TP += 1, FP += d, FN += d;
    without one FP += 1. Every gold slot left over: FN += 1.

    ValueError if the recordings differ in number (what was not predicted is an empty sequence, it
    may not be left out) or a gold filler has no words.
    """
    if len(gold) != len(predicted):
        raise ValueError(
            f"predicted: slots of {len(predicted)} recordings; give those of all {len(gold)}, "
            "empty ones where nothing was predicted."
        )
    rows = [(_lower(g), _lower(p)) for g, p in zip(gold, predicted, strict=True)]
    for place, (said, _) in enumerate(rows):
        for kind, filler in said:
            if not filler.split():
                raise ValueError(
                    f"gold: recording {place}, slot {kind!r} has no words; leave the slot out."
                )
    found = np.zeros(3)
    for distance in (word_distance, character_distance):
        for said, heard in rows:
            found += _counts(said, heard, distance)
    hits, wrong, missed = found.tolist()
    precision, recall = _share(hits, hits + wrong), _share(hits, hits + missed)
    f1 = _share(2 * precision * recall, precision + recall)
    return SluScore(f1, precision, recall, int(hits), wrong, missed)


def word_distance(said: str, heard: str) -> float:
    """Word errors / words said: above 1 where far more was heard; 1 where nothing was."""
    words = said.split()
    return word_errors(words, heard.split()).total / len(words)


def character_distance(said: str, heard: str) -> float:
    """Character edits / length of the longer one, in [0, 1]; 1 where nothing was heard."""
    if not heard.split():
        return 1.0
    return word_errors(said, heard).total / max(len(said), len(heard))


def _counts(
    said: Slots, heard: Slots, distance: Callable[[str, str], float]
) -> tuple[float, float, float]:
    """TP, FP, FN of one recording."""
    unused = list(said)
    hits = wrong = missed = 0.0
    for kind, filler in heard:
        # Equal ones need no dynamic programming, and most are.
        ways = [
            (0.0 if one == filler else distance(one, filler), place)
            for place, (type_, one) in enumerate(unused)
            if type_ == kind
        ]
        if not ways:
            wrong += 1
            continue
        d, place = min(ways)
        del unused[place]
        hits, wrong, missed = hits + 1, wrong + d, missed + d
    return hits, wrong, missed + len(unused)


def _lower(slots: Slots) -> list[tuple[str, str]]:
    return [(kind, filler.lower()) for kind, filler in slots]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
