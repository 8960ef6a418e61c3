"""YAML that others wrote, read within limits: a few bytes of it may stand for any number of values.

An alias (``*a``) stands for all that its anchor holds, and ten in a row ten times over stand for
10**10 values; deep nesting ends in the interpreter's own limit.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from multimodal.errors import UserError

MOST_CHARACTERS, MOST_VALUES, DEEPEST = 2**23, 200_000, 50


class Limited:
    """Mix-in of a PyYAML loader: UserError, which names the line, for a document beyond limits.

    Every value, key, list and mapping counts, those behind an alias each time that it stands there.
    """

    _depth = _values = 0

    def compose_node(self: Any, parent: Any, index: Any) -> Any:
        line = self.peek_event().start_mark.line + 1
        alias, before = self.check_event(yaml.AliasEvent), self._values
        if alias and self.peek_event().anchor in self.anchors:
            held = self._held.get(id(self.anchors[self.peek_event().anchor]))
            if held is None:
                raise UserError(f"line {line}: an alias (*) stands within what it stands for.")
            self._values += held
        else:
            self._values += 1
        if self._values > MOST_VALUES:
            raise UserError(f"line {line}: more than {MOST_VALUES:,} values; write fewer.")
        self._depth += 1
        if self._depth > DEEPEST:
            raise UserError(f"line {line}: nested over {DEEPEST} deep; write it flatter.")
        node = super().compose_node(parent, index)  # pyright: ignore[reportAttributeAccessIssue]
        self._depth -= 1
        if not alias:
            self._held[id(node)] = self._values - before
        return node

    @property
    def _held(self) -> dict[int, int]:
        """Of every finished node, by its identity, the values in it."""
        return self.__dict__.setdefault("_counts", {})


class SafeLoader(Limited, yaml.SafeLoader):
    """Plain YAML."""


def load(text: str, loader: Any = SafeLoader) -> Any:
    """One document; UserError, without the file's name, for all that is wrong with it."""
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{len(text):,} characters; at most {MOST_CHARACTERS:,} are read.")
    try:
        return loader(text).get_single_data()
    except UserError:
        raise
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {_told(error)}") from error
    # What PyYAML answers to values that are not what their tag says, as in "!!int x".
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        words = " ".join(str(error).split())[:100]
        raise UserError(
            f"not valid YAML: a value does not fit its tag ({words}); leave tags out."
        ) from error
    except RecursionError as error:
        raise UserError(f"nested over {DEEPEST} deep; write it flatter.") from error


def _told(error: yaml.YAMLError) -> str:
    """Without the piece of the text that PyYAML shows: an address in it would be cut anywhere, and
    nobody could tell any more what of it is a password.
    """
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())[:200]
    words = " ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return where + re.sub(r"['\"][^'\"]{4,}['\"]", "...", " ".join(words.split()))[:200]
