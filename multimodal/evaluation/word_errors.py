"""Word error rate: how far transcripts are from what was said.

(substitutions + deletions + insertions) / words of the references, over all recordings together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from multimodal.evaluation.intervals import REPLICATES, Intervals, estimates

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class WordErrors(NamedTuple):
    """The fewest single-word edits from a reference to a transcript.

    Of several ways with equally few the one with the most substitutions counts, so that a wrong
    word is one error of one kind.
    """

    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class WordErrorRate:
    """rate: may exceed 1, because of insertions. words: of the references."""

    rate: float
    errors: WordErrors
    words: int
    intervals: Intervals


def plain_words(text: str) -> list[str]:
    """Lower case without punctuation; "don't" is one word, "twelve-ounce" are two."""
    return WORD.findall(text.lower().replace("’", "'"))


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """By dynamic programming (Wagner and Fischer, 1974)."""
    # (errors, gaps, substitutions, deletions, insertions) of the first i and j words.
    row = [(j, j, 0, 0, j) for j in range(len(heard) + 1)]
    for i, said in enumerate(reference, start=1):
        above, row = row, [(i, i, 0, i, 0)]
        for j, word in enumerate(heard, start=1):
            wrong = int(said != word)
            e, g, s, d, n = above[j - 1]
            ways = [(e + wrong, g, s + wrong, d, n)]
            e, g, s, d, n = above[j]
            ways.append((e + 1, g + 1, s, d + 1, n))
            e, g, s, d, n = row[j - 1]
            ways.append((e + 1, g + 1, s, d, n + 1))
            row.append(min(ways))
    return WordErrors(*row[-1][2:])


def word_error_rate(
    references: Sequence[str], heard: Sequence[str], *, replicates: int = REPLICATES, seed: int = 0
) -> WordErrorRate | None:
    """Of texts as ``plain_words``; None if the references have no word at all.

    The interval, key ``word_error_rate``, is the bootstrap over recordings.
    """
    said = [plain_words(text) for text in references]
    counts = [word_errors(s, plain_words(h)) for s, h in zip(said, heard, strict=True)]
    words, errors = np.array([len(s) for s in said]), np.array([c.total for c in counts])
    if not words.sum():
        return None

    def statistic(drawn: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"word_error_rate": (drawn @ errors) / (drawn @ words)}

    values, intervals = estimates(
        np.arange(len(words)), len(words), statistic, replicates=replicates, seed=seed
    )
    total = WordErrors(*np.array(counts).sum(axis=0).tolist())
    return WordErrorRate(values["word_error_rate"], total, int(words.sum()), intervals)
