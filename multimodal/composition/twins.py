"""Twins: the same snippets, levels, gap, fades and length, composed in another way.

For benchmarks of composition (pairs and triplets of scenes whose captions have the same words), and
as negative signals. Only what is said of order and simultaneity tells twins apart.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Literal, NamedTuple

import numpy as np

from multimodal.composition.draw import draw, led
from multimodal.composition.expressions import Sequence, Slot, Tree, parse, slots
from multimodal.composition.layout import Placed, place
from multimodal.composition.lexicons import LEXICONS
from multimodal.composition.meanings import (
    constraints,
    meaning,
    tail_overlaid,
    tail_turned,
    turned,
)
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.relations import TRUE, Judge
from multimodal.composition.scenes import Part, Plan, Scenes, joined, stacked, told
from multimodal.errors import UserError

KINDS = {"turned": turned, "tail": tail_turned, "overlaid": tail_overlaid}
Kind = Literal["turned", "tail", "overlaid"]


def twins(
    scenes: Scenes, pool: Pool, config: ComposerConfig, *, kind: Kind = "turned", seed: int = 0
) -> Scenes:
    """Of each scene its twin, in its place, with captions of its own in the scene's wording.

    kind: turned: sequences reversed, or, where there is none, the overlaid events in sequence;
    tail: the last two parts of sequences exchanged; overlaid: these two at the same time (see
    ``meanings``). What is shorter than its scene gets silence at its ends, in the scene's share.

    UserError where a twin says the same as its scene, is longer, or would not be what its
    expression says; scenes drawn with ``paired`` have room for turned twins, which are true.
    """
    parts = [_twin(scenes, pool, config, kind, *group) for group in scenes.groups()]
    plan = joined(parts, scenes.rate, scenes.snippets.shape[1])
    return told(plan, pool, config, np.random.default_rng([config.seed, seed, 1]))


def _twin(
    scenes: Scenes, pool: Pool, config: ComposerConfig, kind: Kind, tree: Tree, rows: np.ndarray
) -> Part:
    new, events, rate = KINDS[kind](tree), len(slots(tree)), scenes.rate
    names = [str(number) for number in range(events)]
    if meaning(new, names) == meaning(tree, names):
        raise UserError(f"expression {str(tree)!r}: its {kind} twin says the same; draw without.")
    skipped = ("rate", "expressions", "expression")
    columns = {
        field.name: getattr(scenes, field.name)[rows]
        for field in fields(Plan)
        if field.name not in skipped
    }
    columns = {
        name: column[:, :events] if column.ndim == 2 and name != "wordings" else column
        for name, column in columns.items()
    }
    lengths = columns["lengths"] * columns["loops"]

    def placed_at(shift: np.ndarray) -> tuple[Placed, np.ndarray]:
        placed = place(new, lengths, columns["gap"], shift, loop=False)
        times = placed.onsets / rate, (placed.onsets + lengths) / rate
        return placed, Judge(*times, config.rules).verdicts(constraints(new)) == TRUE

    # What shared no time need not do so wherever it is overlaid; it does if all start together.
    _, true = placed_at(columns["shift"])
    columns["shift"] = np.where(true[:, None], columns["shift"], 0.0)
    placed, true = placed_at(columns["shift"])
    room = columns["totals"] - placed.total
    if not true.all() or room.min() < 0:
        raise UserError(
            f"expression {str(tree)!r}: {np.count_nonzero(~true | (room < 0))} of {len(rows)} "
            f"scenes have no {kind} twin that is as long and true; draw them with paired=true."
        )
    onsets = placed.onsets + led(columns["lead"], room)[:, None]
    return Part(new, rows, {**columns, "onsets": onsets, "offsets": onsets + lengths})


class Items(NamedTuple):
    """scenes, and items of two or three numbers of scenes: a scene, its turned or tail twin, and
    the overlaid one. Captions of the first two have the same words in another order.
    """

    scenes: Scenes
    items: list[tuple[int, ...]]


def benchmark_items(
    pool: Pool, config: ComposerConfig, count: int, *, triplets: float = 0.25, seed: int = 0
) -> Items:
    """``count`` items, of which a share of (at most) ``triplets`` has a third scene.

    Of the expressions those with a sequence in them are drawn, for captions of the same words need
    one. Of sequences of three parts and more every second item, by chance, keeps its first part: no
    model solves these by the first event alone. Triplets are of sequences of single events; none
    where captions have no words for what is at the same time.
    UserError: as ``draw``, no such expression, and a share outside [0, 1].
    """
    if not 0 <= triplets <= 1:
        raise UserError(f"triplets: {triplets}; give a share from 0 to 1.")
    kept = {name: w for name, w in config.expressions.items() if "+" in name}
    if not kept:
        raise UserError(f"expressions: {', '.join(config.expressions)}; items of order need a '+'.")
    config = config.model_copy(update={"expressions": kept, "paired": True})
    scenes = draw(pool, config, count, seed)
    rng = np.random.default_rng([config.seed, seed, 2])
    trees = [parse(scenes.expressions[e]) for e in scenes.expression.tolist()]
    tail = rng.random(count) < 0.5
    tail &= [isinstance(t, Sequence) and len(t.parts) > 2 for t in trees]
    plain = [isinstance(t, Sequence) and all(isinstance(p, Slot) for p in t.parts) for t in trees]
    plain = np.array(plain) & bool(LEXICONS[config.lexicon].together)
    third = rng.permutation(np.flatnonzero(plain))[: round(triplets * count)]
    found, items = [scenes], list[tuple[int, ...]]((row,) for row in range(count))
    chosen: tuple[tuple[Kind, np.ndarray], ...] = (
        ("turned", np.flatnonzero(~tail)),
        ("tail", np.flatnonzero(tail)),
        ("overlaid", np.sort(third)),
    )
    for kind, rows in chosen:
        first = sum(map(len, found))
        if len(rows):
            found.append(twins(scenes.select(rows), pool, config, kind=kind, seed=seed))
        for number, row in enumerate(rows.tolist()):
            items[row] = (*items[row], first + number)
    return Items(stacked(found), items)
