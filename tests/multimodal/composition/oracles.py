"""What captions say and whether it is true, slowly and from the text."""

from __future__ import annotations

import itertools

from multimodal.composition.expressions import Overlay, Sequence, Slot, Tree
from multimodal.composition.lexicons import LAST_FIRST, TOGETHER
from multimodal.composition.meanings import constraints
from multimodal.composition.relations import RULES, Constraint, Rules


def read(text: str) -> Tree:
    """A reader for people's rules: the strongest mark first, then the words beside it."""
    longest_first = sorted((*LAST_FIRST, *TOGETHER), key=len, reverse=True)
    for mark, words in itertools.product((";", ",", ""), longest_first):
        parts = text.split(f"{mark} {words} ")
        if len(parts) < 2:
            continue
        if words in LAST_FIRST:
            found = [read(part) for part in parts]
            return Sequence(tuple(found[::-1] if LAST_FIRST[words] else found))
        found = []
        for part in parts:
            single = part.removesuffix(" throughout")
            found += [Slot(x) for x in single.split(" and ")] if single != part else [read(part)]
        return Overlay(tuple(found))
    return Slot(text)


def decided(constraint: Constraint, events: list[list[float]], rules: Rules) -> bool | None:
    """Spec 5.2, step by step, for one scene."""
    x, y = ((min(events[i][0] for i in g), max(events[i][1] for i in g)) for g in constraint[1:])
    common = max(0.0, min(x[1], y[1]) - max(x[0], y[0]))
    shorter, union = min(x[1] - x[0], y[1] - y[0]), x[1] - x[0] + y[1] - y[0] - common
    c = common / (shorter if rules.share_of == "shorter" else union)
    both, apart = c >= rules.theta, c <= rules.theta_lo
    forth, back = x[1] <= y[0] + rules.eps, y[1] <= x[0] + rules.eps
    holds, denied = (forth, back or both) if constraint.kind == "before" else (both, apart)
    return None if holds == denied else holds


def said(text: str, phrases: list[str], times: list[list[float]]) -> bool | None:
    """Whether a caption is true of events with these phrases and (onset, offset) seconds."""
    for letter, phrase in zip("\0\1\2\3", phrases, strict=False):
        text = text.replace(phrase, letter)
    for letter, number in zip("ABCD", "\0\1\2\3", strict=True):
        text = text.replace(number, letter)
    each = [decided(c, times, RULES) for c in constraints(read(text))]
    return False if False in each else True if all(each) else None
