"""The words that captions join events with: for what comes in time, and for what lies in space."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

# Words for order -> whether the last event is named first.
ORDER = {
    "then": False,
    "followed by": False,
    "before": False,
    "and then": False,
    "and later": False,
    "after": True,
    "preceded by": True,
}
TOGETHER = ("while", "with", "accompanied by", "at the same time as")
# From left to right; whether what lies on the right is named first.
SPACE = {
    "left of": False,
    "to the left of": False,
    "right of": True,
    "to the right of": True,
}
LAST_FIRST = {**ORDER, **SPACE}


class Wording(NamedTuple):
    """order: a word for "+". together: a word for "*", "" if there is none."""

    order: str
    together: str


class Lexicon(NamedTuple):
    """order: words for "+", whether they name the last part first. together: words for "*"; empty
    where nothing is at the same time, so that no caption, true or false, says so.
    """

    order: dict[str, bool]
    together: tuple[str, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.order), max(1, len(self.together))


LexiconName = Literal["time", "order", "space"]
LEXICONS: dict[LexiconName, Lexicon] = {
    "time": Lexicon(ORDER, TOGETHER),
    "order": Lexicon(ORDER, ()),
    "space": Lexicon(SPACE, ()),
}


def draw_wordings(
    count: int, rng: np.random.Generator, lexicon: Lexicon = LEXICONS["time"]
) -> np.ndarray:
    """(N, 2) int64: numbers of a word for order and of one for simultaneity, each scene's."""
    return rng.integers(lexicon.sizes, size=(count, 2))


def other_wordings(wordings: np.ndarray, rng: np.random.Generator, lexicon: Lexicon) -> np.ndarray:
    """(N, 2) int64: other words than those of ``draw_wordings``, where there are others."""
    return wordings + rng.integers((1, 1), np.maximum(lexicon.sizes, 2), (len(wordings), 2))


def wordings_of(numbers: np.ndarray, lexicon: Lexicon) -> list[Wording]:
    """N wordings. Numbers are counted on from the last word to the first."""
    together = lexicon.together or ("",)
    every = [[Wording(order, word) for word in together] for order in lexicon.order]
    return [every[order][word] for order, word in (numbers % lexicon.sizes).tolist()]
