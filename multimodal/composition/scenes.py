"""Scenes as columns: what sounds when, what is said of it, and a hash of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from multimodal.composition.captions import caption
from multimodal.composition.expressions import Tree, parse, slots
from multimodal.composition.lexicons import LEXICONS
from multimodal.composition.meanings import constraints, meaning
from multimodal.composition.plan import ComposerConfig, Pool


@dataclass(frozen=True, eq=False)
class Plan:
    """What was drawn of N scenes of at most K events; times in steps, ``rate`` to the second.

    expression: (N,) int64 numbers of expressions. Of each event, (N, K), column 0 for A: snippets,
    rows of the pool, -1 for none; starts, where it starts in its recording; lengths of one
    copy; loops, copies; onsets, offsets; gain_db relative to the common level; shift, see
    ``layout``. Of each scene, (N,): gap; fade, at both ends of every copy of every event; totals,
    its length; lead in [0, 1), the share of its silence at the two ends that lies before the first
    event. wordings: (N, 2), see ``captions``.
    """

    rate: int
    expressions: tuple[str, ...]
    expression: np.ndarray
    snippets: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    loops: np.ndarray
    onsets: np.ndarray
    offsets: np.ndarray
    gain_db: np.ndarray
    shift: np.ndarray
    gap: np.ndarray
    fade: np.ndarray
    lead: np.ndarray
    totals: np.ndarray
    wordings: np.ndarray

    def __len__(self) -> int:
        return len(self.expression)

    @cached_property
    def trees(self) -> tuple[Tree, ...]:
        """Of ``expressions``."""
        return tuple(parse(text) for text in self.expressions)

    def groups(self) -> Iterator[tuple[Tree, np.ndarray]]:
        """Every tree that comes, with the rows of its scenes."""
        for number, tree in enumerate(self.trees):
            rows = np.flatnonzero(self.expression == number)
            if len(rows):
                yield tree, rows


@dataclass(frozen=True, eq=False)
class Scenes(Plan):
    """A plan and what follows from it.

    captions: N main ones. positives: N lists, the main one first. negatives: N lists, the hardest
    first. positive_trees, negative_trees: what each says, as expressions of the scene's letters
    (a lone letter: that event). keys: (N,) int64, equal where main captions say the same of the
    same words. hashes: N hex digests of all that is heard or seen.
    """

    captions: list[str]
    positives: list[list[str]]
    negatives: list[list[str]]
    positive_trees: list[list[str]]
    negative_trees: list[list[str]]
    keys: np.ndarray
    hashes: list[str]

    @property
    def onset_seconds(self) -> np.ndarray:
        """(N, K) float64; 0 where there is no event."""
        return self.onsets / self.rate

    @property
    def offset_seconds(self) -> np.ndarray:
        """(N, K) float64; 0 where there is no event."""
        return self.offsets / self.rate

    def select(self, rows: np.ndarray) -> Self:
        """These scenes only, in this order."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                changed[field.name] = value[rows]
            elif isinstance(value, list):
                changed[field.name] = [value[row] for row in rows.tolist()]
        return replace(self, **changed)


class Part(NamedTuple):
    """Columns of a plan for the scenes ``rows`` of one tree; events of this tree only."""

    tree: Tree
    rows: np.ndarray
    columns: dict[str, np.ndarray]


def joined(parts: list[Part], rate: int, events: int) -> Plan:
    """One plan of parts that together have all rows, each once; ``events``: its K."""
    count = sum(len(part.rows) for part in parts)
    names = tuple(dict.fromkeys(str(part.tree) for part in parts))
    whole: dict[str, np.ndarray] = {"expression": np.zeros(count, dtype=np.int64)}
    for part in parts:
        whole["expression"][part.rows] = names.index(str(part.tree))
        for name, column in part.columns.items():
            wide = column.ndim == 2 and name != "wordings"
            shape = (count, events) if wide else (count, *column.shape[1:])
            fill = {"snippets": -1, "loops": 1}.get(name, 0)
            to = whole.setdefault(name, np.full(shape, fill, dtype=column.dtype))
            if wide:
                to[part.rows, : column.shape[1]] = column
            else:
                to[part.rows] = column
    return Plan(rate=rate, expressions=names, **whole)


def told(plan: Plan, pool: Pool, config: ComposerConfig, rng: np.random.Generator) -> Scenes:
    """The scenes of a plan: with captions, keys and hashes."""
    lists: dict[str, Any] = {name: [None] * len(plan) for name in LISTS}
    keys = np.zeros(len(plan), dtype=np.int64)
    for tree, rows in plan.groups():
        events = len(slots(tree))
        words = [[pool.phrases[s] for s in row] for row in plan.snippets[rows, :events].tolist()]
        found = caption(
            tree,
            words,
            plan.onsets[rows, :events] / plan.rate,
            plan.offsets[rows, :events] / plan.rate,
            positives=config.positives,
            negatives=config.negatives,
            wordings=plan.wordings[rows],
            rng=rng,
            rules=config.rules,
            lexicon=LEXICONS[config.lexicon],
        )
        names: dict[Tree, str] = {}
        for at, row in enumerate(rows.tolist()):
            lists["captions"][row] = found.main[at]
            lists["positives"][row] = found.positives[at]
            lists["negatives"][row] = found.negatives[at]
            for side in ("positive_trees", "negative_trees"):
                said = getattr(found, side)[at]
                lists[side][row] = [names.setdefault(t, names.get(t) or str(t)) for t in said]
        keys[rows] = [_number(meaning(tree, row)) for row in words]
    return Scenes(**vars_of(plan), **lists, keys=keys, hashes=_hashes(plan, pool))


LISTS = ("captions", "positives", "negatives", "positive_trees", "negative_trees")


def vars_of(plan: Plan) -> dict[str, Any]:
    """The columns of a plan by name."""
    return {field.name: getattr(plan, field.name) for field in fields(Plan)}


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _hashes(plan: Plan, pool: Pool) -> list[str]:
    """Of snippets (recording, source, place), expression, places, levels, fades and rate."""
    there = plan.snippets >= 0
    expression = np.array([_number(text) for text in plan.expressions])[plan.expression]
    rate = np.full(len(plan), plan.rate)
    table = np.column_stack(
        [
            *[rate, plan.totals, expression, plan.fade],
            np.where(there, pool.keys[plan.snippets], 0),
            *[plan.onsets, plan.offsets, plan.loops],
            np.where(there, plan.gain_db, 0.0).astype("<f8").view("<i8"),
        ]
    ).astype("<i8")
    return [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in table]


def claims(expression: str) -> tuple[Any, ...]:
    """The constraints of one of ``positive_trees`` or ``negative_trees``."""
    return () if len(expression) == 1 else constraints(parse(expression))


def stacked(several: list[Scenes]) -> Scenes:
    """The scenes of all, one after the other; of one rate and as many events."""
    assert len({scenes.rate for scenes in several}) == 1, "several rates"
    names = tuple(dict.fromkeys(name for scenes in several for name in scenes.expressions))
    columns: dict[str, Any] = {"rate": several[0].rate, "expressions": names}
    for field in fields(Scenes):
        values = [getattr(scenes, field.name) for scenes in several]
        if field.name == "expression":
            places = [[names.index(name) for name in scenes.expressions] for scenes in several]
            values = [np.array(place)[v] for place, v in zip(places, values, strict=True)]
        if isinstance(values[0], np.ndarray):
            columns[field.name] = np.concatenate(values)
        elif isinstance(values[0], list):
            columns[field.name] = [entry for value in values for entry in value]
    return Scenes(**columns)
