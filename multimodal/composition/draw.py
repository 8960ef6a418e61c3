"""Drawing scenes: snippets that fit the limit and of which the expression is true, never cut."""

from __future__ import annotations

import itertools

import numpy as np

from multimodal.composition.expressions import Tree, parse, slots
from multimodal.composition.layout import Placed, place
from multimodal.composition.lexicons import LEXICONS, draw_wordings
from multimodal.composition.meanings import constraints, turned
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.relations import TRUE, Judge
from multimodal.composition.scenes import Part, Scenes, joined, told
from multimodal.composition.stock import Stock
from multimodal.errors import UserError

TRIES = 400  # of a scene, each with a candidate or more
SAME_LABELS = 8  # tries, before others are drawn: labels of short snippets are not preferred much
BLOCK = 4096  # scenes that are drawn together, which bounds the memory
AT_ONCE = 512  # candidates at least, for all scenes that are left together
SHORTEST = 12  # labels that the shortest possible scene is looked for among


def draw(pool: Pool, config: ComposerConfig, count: int, seed: int = 0) -> Scenes:
    """``count`` scenes; equal pools, settings, counts and seeds (beside the config's) give equal
    ones.

    Labels of a scene are drawn uniformly, then snippets of them: distinct labels of different
    categories, none part of another, nor of another's phrase. Snippets are drawn again until the
    scene is within ``max_seconds`` and its expression is true by ``relations``.

    UserError where the pool has too few labels, and where nothing fits: with the setting, the
    shortest scene there could be, and the remedy.
    """
    if count < 1:
        raise UserError(f"count: {count} scenes; give at least 1.")
    trees = [parse(text) for text in config.expressions]
    rng = np.random.default_rng([config.seed, seed])
    weights = np.array(list(config.expressions.values()))
    which = rng.choice(len(trees), size=count, p=weights / weights.sum())
    stock = Stock(pool, config)
    parts = []
    for number, tree in enumerate(trees):
        rows = np.flatnonzero(which == number)
        for first in range(0, len(rows), BLOCK):
            block = rows[first : first + BLOCK]
            drawer = _Drawer(tree, stock, pool, config, np.random.default_rng(rng.integers(2**63)))
            parts.append(Part(tree, block, drawer.columns(len(block))))
    plan = joined(parts, pool.rate, max(len(slots(tree)) for tree in trees))
    return told(plan, pool, config, rng)


class _Drawer:
    """Scenes of one tree."""

    def __init__(
        self,
        tree: Tree,
        stock: Stock,
        pool: Pool,
        config: ComposerConfig,
        rng: np.random.Generator,
    ) -> None:
        self.tree, self.stock, self.pool, self.config, self.rng = tree, stock, pool, config, rng
        self.events = len(slots(tree))
        self.twin = turned(tree) if config.paired else None
        self.most = int(config.max_seconds * pool.rate)

    def columns(self, count: int) -> dict[str, np.ndarray]:
        """Columns of a ``Plan`` of ``count`` scenes."""
        snippets = np.full((count, self.events), -1)
        gap, shift = np.zeros(count, dtype=np.int64), np.zeros((count, self.events))
        kinds = np.full((count, 2, self.events), -1)
        rows = np.arange(count)
        for attempt in range(TRIES):
            if attempt % SAME_LABELS == 0:
                kinds[rows] = self.stock.kinds(self.tree, len(rows), self.rng)
            each = max(1, AT_ONCE // len(rows))
            found = self._candidates(np.repeat(kinds[rows], each, axis=0))
            fits = self._fits(*found).reshape(-1, each)
            first = fits.argmax(axis=1) + each * np.arange(len(rows))
            for column, drawn in zip((snippets, gap, shift), found, strict=True):
                column[rows] = drawn[first]
            rows = rows[~fits.any(axis=1)]
            if not len(rows):
                return self._complete(snippets, gap, shift)
        raise UserError(self._why(len(rows), count))

    def _candidates(self, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Snippets (N, K), gaps (N,) and shifts (N, K) for scenes with these labels and sources."""
        low, high = (round(seconds * self.pool.rate) for seconds in self.config.gap)
        return (
            self.stock.snippets(kinds, self.rng),
            self.rng.integers(low, high + 1, size=len(kinds)),
            self.rng.random((len(kinds), self.events)),
        )

    def _fits(self, snippets: np.ndarray, gap: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """(N,) bool: all there, short enough, true, and no phrase is part of another."""
        own, lengths, other = self._placed(snippets, gap, shift)
        good = (snippets >= 0).all(axis=1) & self.stock.apart(snippets)
        good &= (own.total <= self.most) & self._true(self.tree, own, lengths)
        if self.twin is not None and other is not None:
            good &= (other.total <= self.most) & self._true(self.twin, other, lengths)
        return good

    def _placed(
        self, snippets: np.ndarray, gap: np.ndarray, shift: np.ndarray
    ) -> tuple[Placed, np.ndarray, Placed | None]:
        """The scenes, the lengths of their events with all copies, and their twins."""
        lengths = self.pool.lengths[snippets]
        own = place(self.tree, lengths, gap, shift, loop=self.config.loop)
        lengths = lengths * own.loops
        if self.twin is None:
            return own, lengths, None
        return own, lengths, place(self.twin, lengths, gap, shift, loop=False)

    def _true(self, tree: Tree, placed: Placed, lengths: np.ndarray) -> np.ndarray:
        onsets, rate = placed.onsets, self.pool.rate
        judge = Judge(onsets / rate, (onsets + lengths) / rate, self.config.rules)
        return judge.verdicts(constraints(tree)) == TRUE

    def _complete(
        self, snippets: np.ndarray, gap: np.ndarray, shift: np.ndarray
    ) -> dict[str, np.ndarray]:
        own, lengths, other = self._placed(snippets, gap, shift)
        copies, count = self.pool.lengths[snippets], len(snippets)
        totals = own.total if other is None else np.maximum(own.total, other.total)
        lead = self.rng.random(count)
        onsets = own.onsets + led(lead, totals - own.total)[:, None]
        half = self.config.level_db / 2
        return {
            "snippets": snippets,
            "starts": self.pool.starts[snippets],
            "lengths": copies,
            "loops": own.loops,
            "onsets": onsets,
            "offsets": onsets + lengths,
            "gain_db": self.rng.uniform(-half, half, size=snippets.shape),
            "shift": shift,
            "gap": gap,
            "fade": np.minimum(round(self.config.fade * self.pool.rate), copies.min(axis=1) // 10),
            "lead": lead,
            "totals": totals,
            "wordings": draw_wordings(count, self.rng, LEXICONS[self.config.lexicon]),
        }

    def _why(self, left: int, count: int) -> str:
        """What to say where scenes are left that nothing fits in."""
        config, name = self.config, str(self.tree)
        shortest = self._shortest()
        if shortest is None:
            low, high = config.snippet_seconds
            return (
                f"expression {name!r}: needs {self.events} labels of different categories, no name "
                f"or phrase part of another, sources {config.sources!r}; the pool has too few with "
                f"snippets of {low:g} to {high:g} s (snippet_seconds). Add labels or drop the "
                "expression."
            )
        twin = " with room for its twin (paired)" if config.paired else ""
        return (
            f"max_seconds: {config.max_seconds:g}; after {TRIES} draws {left} of {count} scenes of "
            f"{name!r} do not fit. The shortest{twin} takes {shortest / self.pool.rate:.2f} s; "
            "raise max_seconds, lower snippet_seconds or drop the expression."
        )

    def _shortest(self) -> int | None:
        """Steps of the shortest scene, of the shortest snippets of the shortest labels."""
        pool, stock = self.pool, self.stock
        best: dict[int, int] = {}
        for row in stock.rows[np.argsort(pool.lengths[stock.rows], kind="stable")].tolist():
            best.setdefault(int(pool.labels[row]), row)
        labels = list(best)[: max(SHORTEST, self.events)]
        choices = np.array(list(itertools.permutations(labels, self.events)), dtype=np.int64)
        pairs = list(itertools.combinations(range(self.events), 2))
        if len(choices):
            alike = [stock.compatible[choices[:, i], choices[:, j]] for i, j in pairs]
            choices = choices[np.all(alike, axis=0)]
        if not len(choices) or (stock.kinds(self.tree, 100, self.rng)[:, 0] < 0).any(axis=1).all():
            return None
        snippets = np.array([[best[label] for label in row] for row in choices.tolist()])
        gap = np.full(len(snippets), round(self.config.gap[0] * pool.rate))
        own, _, other = self._placed(snippets, gap, np.zeros(snippets.shape))
        totals = own.total if other is None else np.maximum(own.total, other.total)
        return int(totals.min())


def led(lead: np.ndarray, room: np.ndarray) -> np.ndarray:
    """(N,) int64 steps of silence before the first event. lead: (N,) in [0, 1)."""
    return (lead * (room + 1)).astype(np.int64)
