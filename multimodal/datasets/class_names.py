"""Names of classes: their order, and those that people take for one."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")


def class_order(names: Sequence[str]) -> list[str]:
    """Distinct names in natural order: "10" follows "9", "class10" follows "class9".

    Names that are all numbers are ordered by value, so "-1" comes before "0.25".
    """
    names = list(set(names))
    if all(NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names, key=lambda name: (_natural(name), name))


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that people take for one, in ``class_order``.

    They differ in capitals, spaces, characters without width, Unicode's form (NFC, NFD), or are
    the same number.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in class_order(list(names)):
        seen = [c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf"]
        key = " ".join("".join(seen).split()).casefold()
        alike[repr(float(key)) if NUMBER.fullmatch(key) else key].append(name)
    return [group for group in alike.values() if len(group) > 1]


def shown(names: Iterable[str]) -> str:
    """Names that look alike, so that one sees the difference: 'dog', 'dog\\u200b'."""
    return ", ".join(map(ascii, names))


def _natural(name: str) -> list[str | int]:
    # split() alternates text and digits, so equal positions always compare equal types.
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]
