"""Reference mode: what CompA's released generator does, for comparison only.

Ghosh et al., ICLR 2024 (arXiv 2310.08753), as described in specs/compa.md 5.1; a reconstruction
from the behaviour of the public code. Its faults are kept: the longer side of an overlay is cut to
whole copies of the shorter and what is lost stays in the captions, sequences are repeated, captions
have no parentheses, and "A*D" is a positive of (A+B)*(C+D) whether or not the two overlap. Use
``draw`` and ``audio`` for anything else. Operators are taken from left to right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

import numpy as np

from multimodal.composition.expressions import LETTERS, Overlay, Sequence, Slot, Tree, slots
from multimodal.composition.levels import a_weighted_level
from multimodal.composition.meanings import restrictions

PEAK = 0.5
FADE = 0.1  # of the shorter
SEQUENCE_WORDS = (
    "followed by",
    "ends with",
    "before",
    "and later",
    "and then",
    "proceeded by",
    "succeeded by",
)
OVERLAY_WORDS = (
    "overlayed by",
    "and",
    "with",
    "accompanied by",
    "surrounded by",
    "amidst by",
    "coupled with",
)


def flat(tree: Tree) -> str:
    """The expression without parentheses."""
    return str(tree).replace("(", "").replace(")", "")


def positives(tree: Tree) -> list[str]:
    """What remains of any proper subset of the events, longest first, without parentheses; single
    events only of two, and then B*A for A*B.
    """
    count = len(slots(tree))
    sizes = range(count - 1, 1 if count > 2 else 0, -1)
    found = [flat(part) for size in sizes for part in restrictions(tree, size)]
    if count == 2 and isinstance(tree, Overlay):
        found.append(flat(tree)[::-1])
    return list(dict.fromkeys(found))


def negatives(tree: Tree) -> list[str]:
    """Of the whole and of what remains of any two events and more: every operator exchanged, and
    the letters beside every + exchanged. Of X*Y alone only Y+X.
    """
    count = len(slots(tree))
    parts = (part for size in range(count, 1, -1) for part in restrictions(tree, size))
    return list(dict.fromkeys(text for part in parts for text in _near(flat(part))))


def _near(text: str) -> Iterator[str]:
    if len(text) == 3 and text[1] == "*":
        yield f"{text[2]}+{text[0]}"
        return
    for at in range(1, len(text), 2):
        yield text[:at] + ("*" if text[at] == "+" else "+") + text[at + 1 :]
        if text[at] == "+":
            yield text[: at - 1] + text[at - 1 : at + 2][::-1] + text[at + 2 :]


def caption(text: str, labels: Mapping[str, str], number: int) -> str:
    """The caption of an expression without parentheses in the words of pair ``number`` of 49; as
    there, the first seven share their word for "+".
    """
    first, second = divmod(number % (len(SEQUENCE_WORDS) * len(OVERLAY_WORDS)), len(OVERLAY_WORDS))
    words = {"+": SEQUENCE_WORDS[first], "*": OVERLAY_WORDS[second]}
    return " ".join(labels[c] if c in LETTERS else words[c] for c in text)


def render(tree: Tree, sounds: Mapping[str, np.ndarray], rate: int) -> np.ndarray:
    """(C, T) float64 of a tree; sounds: (C, T) of each letter."""
    if isinstance(tree, Slot):
        return np.asarray(sounds[tree.letter], dtype=np.float64)
    parts = [render(part, sounds, rate) for part in tree.parts]
    if isinstance(tree, Sequence):
        return reduce(concatenate, parts)
    return reduce(lambda x, y: overlay(x, y, rate), parts)


def concatenate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One after the other, (C, T) each: faded out and in over a tenth of the shorter, peak 0.5."""
    count = int(FADE * min(x.shape[1], y.shape[1]))
    channels = max(len(x), len(y))
    x, y = (np.repeat(z, channels // len(z), axis=0) for z in (x, y))
    ramp = np.linspace(0.0, 1.0, count)
    x[:, x.shape[1] - count :] *= ramp[::-1]
    y[:, :count] *= ramp
    return _to_peak(np.concatenate([x, y], axis=1))


def overlay(x: np.ndarray, y: np.ndarray, rate: int) -> np.ndarray:
    """Both at once, (1, T): the shorter repeated in whole, the longer cut to that, then
    between-class mixing in equal parts (arXiv 1711.10282); the peak is at most 0.7071.
    """
    one, other = (_to_peak(z[0] - z[0].mean()) for z in (x, y))
    shorter, longer = sorted((len(one), len(other)))
    size = longer // shorter * shorter
    one, other = (np.tile(z, longer // shorter) if len(z) == shorter else z for z in (one, other))
    one, other = one[:size], other[:size]
    share = 1 / (1 + 10 ** ((a_weighted_level(one, rate) - a_weighted_level(other, rate)) / 20))
    mixed = share * one + (1 - share) * other
    return (mixed / np.sqrt(share**2 + (1 - share) ** 2))[None]


def _to_peak(x: np.ndarray) -> np.ndarray:
    return x * (PEAK / max(float(np.abs(x).max()), 1e-12))
