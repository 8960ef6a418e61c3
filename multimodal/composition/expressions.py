"""Expressions of compositions: ``+`` follows, ``*`` sounds together and binds tighter.

::

    sequence = overlay {"+" overlay}
    overlay  = part {"*" part}
    part     = letter | "(" sequence ")"

Both operators are associative, so trees are kept flat: a sequence never directly holds a sequence,
an overlay never an overlay, and two expressions that differ only in idle parentheses are equal.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from multimodal.errors import UserError

LETTERS = string.ascii_uppercase
DEEPEST = 50  # parentheses within parentheses


@dataclass(frozen=True)
class Slot:
    """One event."""

    letter: str

    def __str__(self) -> str:
        return self.letter

    @property
    def number(self) -> int:
        """The column of the event: A is 0."""
        return LETTERS.index(self.letter)


@dataclass(frozen=True)
class Sequence:
    """Two or more parts, one after the other."""

    parts: tuple[Tree, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _flat(self, Sequence))

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))


@dataclass(frozen=True)
class Overlay:
    """Two or more parts at the same time."""

    parts: tuple[Tree, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _flat(self, Overlay))

    def __str__(self) -> str:
        return "*".join(f"({p})" if isinstance(p, Sequence) else str(p) for p in self.parts)


Tree: TypeAlias = Slot | Sequence | Overlay
Node: TypeAlias = Sequence | Overlay


def _flat(node: Node, kind: type[Node]) -> tuple[Tree, ...]:
    """The parts, those of parts of the same kind in their place."""
    assert len(node.parts) > 1, "an operator has two operands"
    return tuple(q for p in node.parts for q in (p.parts if isinstance(p, kind) else (p,)))


def slots(tree: Tree) -> tuple[int, ...]:
    """Numbers of the events, in reading order."""
    if isinstance(tree, Slot):
        return (tree.number,)
    return tuple(number for part in tree.parts for number in slots(part))


def height(tree: Tree) -> int:
    """Operators on the longest way down: 0 for a slot, 1 for A+B+C, 2 for A*(B+C)."""
    return 0 if isinstance(tree, Slot) else 1 + max(height(part) for part in tree.parts)


def has_overlay(tree: Tree) -> bool:
    """Somewhere in the tree parts are at the same time."""
    if isinstance(tree, Sequence):
        return any(map(has_overlay, tree.parts))
    return isinstance(tree, Overlay)


def refuse_overlay(tree: Tree, reason: str) -> None:
    """UserError with the reason where ``has_overlay``."""
    if has_overlay(tree):
        raise UserError(f"expression {str(tree)!r}: {reason}; compose with '+' only, no '*'.")


def parse(text: str) -> Tree:
    """The tree of an expression; ``str`` of it is parsed to the same tree.

    UserError, with a caret below the place, for anything that the grammar has not, a letter that
    comes twice and fewer than two events.
    """
    return _Parser(text).tree()


class _Parser:
    """Recursive descent; ``at`` is the next character to be read."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.seen: set[str] = set()
        self.depth = 0

    def tree(self) -> Tree:
        found = self.sequence()
        if self.peek():
            self.refuse("expected '+', '*' or the end")
        if isinstance(found, Slot):
            self.refuse("expected '+' or '*', at least two events")
        return found

    def sequence(self) -> Tree:
        return self.chain("+", self.overlay, Sequence)

    def overlay(self) -> Tree:
        return self.chain("*", self.part, Overlay)

    def chain(self, operator: str, operand: Callable[[], Tree], kind: type[Node]) -> Tree:
        parts = [operand()]
        while self.peek() == operator:
            self.at += 1
            parts.append(operand())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def part(self) -> Tree:
        found = self.peek()
        if found == "(":
            return self.group()
        if not found or found not in LETTERS:
            self.refuse("expected a letter A to Z or '('")
        if found in self.seen:
            self.refuse(f"{found} comes twice")
        self.seen.add(found)
        self.at += 1
        return Slot(found)

    def group(self) -> Tree:
        self.depth += 1
        if self.depth > DEEPEST:
            self.refuse(f"more than {DEEPEST} parentheses within each other")
        self.at += 1
        inner = self.sequence()
        if self.peek() != ")":
            self.refuse("expected ')', '+' or '*'")
        self.at += 1
        self.depth -= 1
        return inner

    def peek(self) -> str:
        """The next character that is no blank, "" at the end."""
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1
        return self.text[self.at : self.at + 1]

    def refuse(self, problem: str) -> NoReturn:
        shown = self.text if self.text.isprintable() else ascii(self.text)[1:-1]
        place = self.at if shown == self.text else len(ascii(self.text[: self.at])) - 2
        raise UserError(
            f"expression {self.text!r}: {problem} at position {self.at + 1}.\n"
            f"    {shown}\n    {' ' * place}^"
        )
