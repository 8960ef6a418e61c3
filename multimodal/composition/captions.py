"""Captions of compositions: one way to read each, true ones and false ones in order of hardness.

A sequence is written "X, then Y, then Z" (or with another word for order, some of which name the
last event first), an overlay "X while Y", and one with single events and composed ones "X
throughout, with Y then Z". What an operator joins is shown by the mark before its words: none at
the lowest operator, a comma at the next, a semicolon at the third, so the strongest mark is read
first. A scene has one word for order and one for simultaneity, in its true captions and in its
false ones alike: no wording gives the truth away. Words of events are data: put in, never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Columns
from functools import cache
from typing import NamedTuple

import numpy as np

from multimodal.composition.expressions import (
    Overlay,
    Sequence,
    Slot,
    Tree,
    has_overlay,
    height,
    refuse_overlay,
    slots,
)
from multimodal.composition.lexicons import (
    LAST_FIRST,
    LEXICONS,
    Lexicon,
    Wording,
    other_wordings,
    wordings_of,
)
from multimodal.composition.meanings import constraints, flips, meaning, restrictions, swaps
from multimodal.composition.relations import FALSE, RULES, TRUE, Judge, Rules
from multimodal.errors import UserError

MARKS = ("", ",", ";")  # by the height of an operator, from 1
DEEPEST = len(MARKS)


def written(tree: Tree, wording: Wording, words: Columns[str]) -> str:
    """The caption of a tree, with the words of each event; UserError for a tree too deep."""
    return template(tree, wording).format(*words)


@cache
def template(tree: Tree, wording: Wording) -> str:
    """The caption with "{0}" for the words of event A, "{1}" for B, ...; errors as ``written``."""
    if height(tree) > DEEPEST:
        raise UserError(
            f"expression {str(tree)!r}: {height(tree)} operators within each other, captions can "
            f"say {DEEPEST}; nest less."
        )
    if isinstance(tree, Sequence) and height(tree) == 1 and wording.order == "then":
        return ", then ".join(_written(part, wording) for part in tree.parts)
    return _written(tree, wording)


def _written(tree: Tree, wording: Wording) -> str:
    if isinstance(tree, Slot):
        return f"{{{tree.number}}}"
    parts = [_written(part, wording) for part in tree.parts]
    word = wording.order if isinstance(tree, Sequence) else wording.together
    if isinstance(tree, Overlay):
        single = [t for t, p in zip(parts, tree.parts, strict=True) if isinstance(p, Slot)]
        composed = [t for t, p in zip(parts, tree.parts, strict=True) if not isinstance(p, Slot)]
        if single and composed:
            parts = [f"{' and '.join(single)} throughout", *composed]
    elif LAST_FIRST[word]:
        parts.reverse()
    return f"{MARKS[height(tree) - 1]} {word} ".join(parts)


class Form(NamedTuple):
    """A caption that a scene may get. level: lower ones are taken first. reworded: in words other
    than the scene's.
    """

    tree: Tree
    level: int
    reworded: bool = False


@cache
def true_forms(tree: Tree) -> tuple[Form, ...]:
    """What may be true beside the tree itself: its rewordings, then of ever fewer events.

    Single events only of a tree of two.
    """
    names, count = _names(tree), len(slots(tree))
    alike = [Form(t, 0) for t in swaps(tree) if meaning(t, names) == meaning(tree, names)]
    fewest = 1 if count == 2 else 2
    fewer = [
        Form(t, count - size)
        for size in range(count - 1, fewest - 1, -1)
        for t in restrictions(tree, size)
    ]
    return (Form(tree, 0, reworded=True), *alike, *fewer)


@cache
def false_forms(tree: Tree) -> tuple[Form, ...]:
    """What may be false: operators exchanged, operands exchanged, both; then of fewer events."""
    found: dict[Tree, Form] = {}
    count = len(slots(tree))
    for size in range(count, 1, -1):
        for kept in restrictions(tree, size):
            for step, near in enumerate((flips, swaps, _both)):
                for t in near(kept):
                    found.setdefault(t, Form(t, 3 * (count - size) + step))
    return tuple(found.values())


def _both(tree: Tree) -> Iterator[Tree]:
    return (t for flipped in flips(tree) for t in swaps(flipped))


def _names(tree: Tree) -> list[str]:
    return [str(number) for number in range(1 + max(slots(tree)))]


class Captions(NamedTuple):
    """Of N scenes. main: N captions. positives: N lists of true ones, the main one first.
    negatives: N lists of false ones. positive_trees, negative_trees: what each of them says.
    """

    main: list[str]
    positives: list[list[str]]
    negatives: list[list[str]]
    positive_trees: list[list[Tree]]
    negative_trees: list[list[Tree]]


def caption(
    tree: Tree,
    words: Columns[Columns[str]],
    onsets: np.ndarray,
    offsets: np.ndarray,
    *,
    positives: int,
    negatives: int,
    wordings: np.ndarray,
    rng: np.random.Generator,
    rules: Rules = RULES,
    lexicon: Lexicon = LEXICONS["time"],
) -> Captions:
    """Captions of N scenes of one tree, at most so many positives and negatives each.

    words: N times K of the events. onsets, offsets: (N, K) seconds; the tree must be true there.
    wordings: (N, 2) of ``draw_wordings``, of this lexicon.
    Positives are true by ``relations``, negatives false; the first ones after a shuffle within
    each level. Equal generators give equal captions. Where the lexicon has no words for
    simultaneity no caption says it, and a tree that does is a UserError.
    """
    if not lexicon.together:
        refuse_overlay(tree, "its captions have no words for what is at the same time")
    judge, count = Judge(onsets, offsets, rules), len(onsets)
    assert (judge.verdicts(constraints(tree)) == TRUE).all(), "a scene is not what its tree says"
    usual = wordings_of(wordings, lexicon)
    other = wordings_of(other_wordings(wordings, rng, lexicon), lexicon)
    yes, no = true_forms(tree), false_forms(tree)
    if not lexicon.together:
        no = tuple(form for form in no if not has_overlay(form.tree))
    true, false = _taken(yes, judge, TRUE, rng), _taken(no, judge, FALSE, rng)
    found = Captions([], [], [], [], [])
    for row in range(count):
        main = template(tree, usual[row]).format(*words[row])
        found.main.append(main)
        for forms, order, texts, most, sides in (
            (yes, true[row], {main: tree}, positives, (found.positives, found.positive_trees)),
            (no, false[row], {}, negatives, (found.negatives, found.negative_trees)),
        ):
            for number in order:
                if number < 0 or len(texts) >= most:
                    break
                t, _, reworded = forms[number]
                wording = other[row] if reworded else usual[row]
                texts.setdefault(template(t, wording).format(*words[row]), t)
            sides[0].append(list(texts))
            sides[1].append(list(texts.values()))
    return found


def _taken(
    forms: tuple[Form, ...], judge: Judge, wanted: int, rng: np.random.Generator
) -> list[list[int]]:
    """In each scene the numbers of the forms with the wanted verdict, in order, then -1."""
    levels = np.array([form.level for form in forms], dtype=np.float64)
    right = np.stack([judge.verdicts(constraints(form.tree)) == wanted for form in forms], axis=1)
    keys = np.where(right, levels + rng.random(right.shape), np.inf)
    order = np.argsort(keys, axis=1)
    return np.where(np.isfinite(np.take_along_axis(keys, order, axis=1)), order, -1).tolist()
