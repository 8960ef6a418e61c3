"""The snippets of a pool by label and source, for drawing many at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Columns

import numpy as np

from multimodal.composition.expressions import Sequence, Slot, Tree, slots
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.errors import UserError


class Stock:
    """Snippets of allowed length. L labels, Q sources (one, if sources do not matter)."""

    def __init__(self, pool: Pool, config: ComposerConfig) -> None:
        low, high = config.snippet_seconds
        rows = np.flatnonzero((pool.seconds >= low) & (pool.seconds <= high))
        if not len(rows):
            raise UserError(
                f"snippet_seconds: {low:g} to {high:g}; the pool's {len(pool)} snippets take "
                f"{pool.seconds.min():.3g} to {pool.seconds.max():.3g} s."
            )
        self.by_voice = config.sources == "voices"
        names = sorted(set(pool.sources)) if self.by_voice else [""]
        number = {name: i for i, name in enumerate(names)}
        sources = np.array([number[s] if self.by_voice else 0 for s in pool.sources])
        labels, self.num_sources = len(pool.names), len(names)
        cells = pool.labels[rows] * self.num_sources + sources[rows]
        self.rows = rows[np.argsort(cells, kind="stable")]
        self.counts = np.bincount(cells, minlength=labels * self.num_sources)
        self.firsts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.there = self.counts.reshape(labels, self.num_sources) > 0  # (L, Q)
        kinds = np.array(pool.categories, dtype=object)
        self.compatible = _apart(pool.names) & (kinds[:, None] != kinds)  # (L, L)
        phrases = tuple(dict.fromkeys(pool.phrases))
        place = {phrase: i for i, phrase in enumerate(phrases)}
        self.phrases = np.array([place[phrase] for phrase in pool.phrases])
        self.distinct = _apart(phrases)

    def kinds(self, tree: Tree, count: int, rng: np.random.Generator) -> np.ndarray:
        """(N, 2, K) labels and sources of the events of N scenes; label -1 where none is left."""
        voice = voices(tree) if self.by_voice else dict.fromkeys(slots(tree), 0)
        few = max(voice.values()) + 1
        found = np.full((count, 2, len(voice)), -1)
        if self.num_sources < few:
            return found
        order = np.argsort(rng.random((count, self.num_sources)), axis=1)
        for column in range(len(voice)):
            source = order[:, voice[column]]
            open_labels = self.there.T[source]
            for earlier in range(column):
                open_labels = open_labels & self.compatible[found[:, 0, earlier]]
            chance = np.where(open_labels, rng.random(open_labels.shape), -1.0)
            best = np.where(open_labels.any(axis=1), chance.argmax(axis=1), -1)
            alive = best >= 0 if column == 0 else (best >= 0) & (found[:, 0, column - 1] >= 0)
            found[:, 0, column] = np.where(alive, best, -1)
            found[:, 1, column] = source
        return found

    def snippets(self, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N, K) rows of the pool, uniform among those of a label and source; -1 without label."""
        labels, sources = kinds[:, 0], kinds[:, 1]
        cells = np.where(labels >= 0, labels * self.num_sources + sources, 0)
        steps = (rng.random(cells.shape) * self.counts[cells]).astype(np.int64)
        rows = self.rows[np.minimum(self.firsts[cells] + steps, len(self.rows) - 1)]
        return np.where(labels >= 0, rows, -1)

    def apart(self, snippets: np.ndarray) -> np.ndarray:
        """(N,) bool: no phrase is part of another of the scene."""
        phrases = self.phrases[snippets]
        pairs = itertools.combinations(range(snippets.shape[1]), 2)
        return np.all([self.distinct[phrases[:, i], phrases[:, j]] for i, j in pairs], axis=0)


def voices(tree: Tree) -> dict[int, int]:
    """Event -> its source's number: what follows each other shares one, overlaid parts do not."""
    if isinstance(tree, Slot):
        return {tree.number: 0}
    found, used = dict[int, int](), 0
    for part in tree.parts:
        inner = voices(part)
        found |= {event: voice + used for event, voice in inner.items()}
        if not isinstance(tree, Sequence):
            used += max(inner.values()) + 1
    return found


def _apart(texts: Columns[str]) -> np.ndarray:
    """(M, M) bool: neither text holds the other, whatever their case and underscores."""
    plain = [text.replace("_", " ").casefold() for text in texts]
    holds = np.array([[one in other for other in plain] for one in plain])
    return ~(holds | holds.T)
