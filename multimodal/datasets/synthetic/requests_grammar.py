"""What is asked for in spoken requests: 6 domains, each of actions and objects; 304 meanings.

A meaning is an action on an object, and every action has several wordings: they stand in
``requests_grammar.yaml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml


class Domain(NamedTuple):
    """actions: name -> wordings, "{}" where the object goes. objects: their words."""

    actions: dict[str, tuple[str, ...]]
    objects: tuple[str, ...]


def _domains() -> dict[str, Domain]:
    text = Path(__file__).with_suffix(".yaml").read_text("utf-8")
    return {
        name: Domain({k: tuple(v) for k, v in d["actions"].items()}, tuple(d["objects"]))
        for name, d in yaml.safe_load(text).items()
    }


class Meaning(NamedTuple):
    domain: str
    action: str
    object: str

    @property
    def name(self) -> str:
        return f"{self.domain}_{self.action}_{self.object.replace(' ', '_')}"

    @property
    def wordings(self) -> tuple[str, ...]:
        patterns = DOMAINS[self.domain].actions[self.action]
        return tuple(pattern.format(self.object) for pattern in patterns)


BEFORE = ("please", "could you", "can you", "I want you to", "hey", "would you")
AFTER = ("please", "now", "today", "tomorrow", "for me", "this evening", "right now")
# A third of the requests begin, and end, with none of these.
PLAIN = 3
DOMAINS = _domains()
MEANINGS = tuple(
    Meaning(name, action, thing)
    for name, domain in DOMAINS.items()
    for action in domain.actions
    for thing in domain.objects
)


def held_out(rng: np.random.Generator, count: int, kept: frozenset[Meaning]) -> list[Meaning]:
    """``count`` meanings of each domain that differ in action and object where they can.

    kept: meanings that are not chosen. Every action and every object is left to others.
    """
    chosen = []
    for name, domain in DOMAINS.items():
        actions = rng.permutation(list(domain.actions)).tolist()
        objects = rng.permutation(list(domain.objects)).tolist()
        pairs = [
            Meaning(name, action, objects[(i + shift) % len(objects)])
            for shift in range(len(objects))
            for i, action in enumerate(actions)
        ]
        free = [pair for pair in pairs if pair not in kept]
        chosen += free[:count]
    return chosen


def say(meaning: Meaning, rng: np.random.Generator) -> str:
    """A request: a wording, now and then with a word before and behind it."""
    words = meaning.wordings[rng.integers(len(meaning.wordings))]
    before = ("",) * PLAIN + BEFORE
    after = ("",) * PLAIN + AFTER
    first, last = before[rng.integers(len(before))], after[rng.integers(len(after))]
    if first == last == "please":
        last = ""
    return " ".join(word for word in (first, words, last) if word)
