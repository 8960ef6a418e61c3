"""``key.path=value`` of the command line, put into config data that is not read yet."""

from __future__ import annotations

import copy
from typing import Any

from benchmarks.config.written import Written, flow, holds_several
from multimodal.errors import UserError, did_you_mean
from multimodal.yaml_limits import DEEPEST

LONGEST = 200  # characters of an override in a message


def shorter(text: str) -> str:
    """An override as messages quote it."""
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]} ...")


def override(data: dict[str, Any], text: str) -> None:
    """Set ``key.path=value`` in config data; the value is Written, a list or a mapping.

    In the path, a number is a place in a list, and so is the name of one of its entries
    (``learners.er.memory_size=5``: of every entry of that name); a name on the way (``dataset:
    fsdd``) becomes the mapping ``{name: fsdd}``. A bare name of a new list (``learners=[er]``)
    stands for the entries of that name in the list that it replaces, with their settings, if there
    are any. UserError if there is no "=", or the path leads through a value.
    """
    path, equals, value = text.partition("=")
    keys = path.split(".")
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise UserError(f"{shorter(text)}: write overrides as key.path=value.")
    _set(data, keys, 0, Written.at(f"{shorter(text)}: ", value), text)


def place(data: dict[str, Any], keys: list[str], value: Any, *, shown: str) -> None:
    """Put a value of any kind where a path leads, as ``override`` does. shown: of messages."""
    _set(data, keys, 0, value, shown)


def _set(here: Any, keys: list[str], depth: int, value: Any, text: str) -> None:
    slots: list[Any] = [keys[depth]]
    if isinstance(here, list):
        slots = _slots(here, keys[depth], text)
    elif not isinstance(here, dict):
        raise UserError(
            f"{shorter(text)}: {'.'.join(keys[:depth])[:LONGEST]} holds a value, not settings."
        )
    for slot in slots:
        known = here.get(slot) if isinstance(here, dict) else here[slot]
        if depth == len(keys) - 1:
            here[slot] = _selected(known, value)
        else:
            here[slot] = _opened(known)
            _set(here[slot], keys, depth + 1, value, text)


def _slots(entries: list[Any], key: str, text: str) -> list[int]:
    """Places in a list: the one of that number, or those of the entries of that name."""
    if key.isdecimal() and len(key) <= 9 and int(key) < len(entries):
        return [int(key)]
    names = [_name(entry) for entry in entries]
    found = [i for i, name in enumerate(names) if name == key]
    if not found:
        known = [name for name in dict.fromkeys(names) if name is not None]
        words = did_you_mean(key[:LONGEST], known) if known and not key.isdecimal() else "."
        raise UserError(
            f"{shorter(text)}: {key[:LONGEST]!r} is no place in a list of {len(entries)}{words}"
        )
    return found


def _name(entry: Any) -> str | None:
    """Of an entry of a list of choices; None: it is no choice."""
    name = entry.get("name") if isinstance(entry, dict) else entry
    return str(name) if isinstance(name, str) and not holds_several(name) else None


def _selected(known: Any, value: Any) -> Any:
    """A list of names, with the entries of these names that it was chosen from."""
    if isinstance(known, Written) and holds_several(known):
        known = _opened(known)
    if not isinstance(known, list) or not any(isinstance(entry, dict) for entry in known):
        return value
    if not isinstance(value, Written) or not value.lstrip().startswith("["):
        return value
    try:
        wanted = flow(value)
    except UserError:
        return value  # it is told with the other problems, when it is read
    found: list[Any] = []
    for each in wanted:
        own = [e for e in known if isinstance(each, str) and _name(e) == each]
        found += copy.deepcopy(own) if own else [_at(each, value)]
    return found


def _at(each: Any, value: Written) -> Any:
    return Written.at(value.where, str(each)) if type(each) is Written else each


def _opened(child: Any) -> Any:
    """Settings that a path leads through."""
    if isinstance(child, Written) and holds_several(child):
        try:
            return flow(child)
        except UserError as error:
            raise UserError(f"{child.where}{error}.") from error
    if isinstance(child, str):
        return {"name": child}
    return {} if child is None else child
