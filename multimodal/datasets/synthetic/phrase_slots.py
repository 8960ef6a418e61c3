"""What the phrases of the synthetic speakers name: the slots of each, by one lexicon."""

from __future__ import annotations

import re

from multimodal.recordings import Slots

# Type -> its values, as they stand in ``phrases.PHRASES``. No value is of two types.
WORDS: dict[str, tuple[str, ...]] = {
    "object": (
        *("lights", "volume", "sound", "music", "alarm", "heating", "door", "floor"),
        *("vacuum cleaner", "timer"),
    ),
    "location": ("kitchen", "bedroom", "front", "back"),
    "time": ("six", "half past six", "seven", "eight"),
    "timeofday": ("morning",),
    "date": ("today", "tomorrow"),
    "minutes": ("two", "three", "five", "ten"),
    "contact": ("mother", "father", "brother", "sister", "doctor", "home", "office"),
    "item": ("milk", "bread", "eggs", "butter", "coffee", "apples", "cheese"),
}
TYPES = {value: kind for kind, values in WORDS.items() for value in values}
# Longer values first: "half past six" is one time.
VALUES = re.compile(rf"\b({'|'.join(sorted(TYPES, key=len, reverse=True))})\b")


def slots_of(phrase: str) -> Slots:
    """(type, value) pairs in the order in which the phrase says them; whole words only."""
    return tuple((TYPES[value], value) for value in VALUES.findall(phrase))
