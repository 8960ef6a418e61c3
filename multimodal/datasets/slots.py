"""Slots of spoken requests as readers take them from files: (type, value) pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from multimodal.datasets.table_files import BLANK, once
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Slots, slot_fault

FORMS = '{"location": "kitchen"} or [["location", "kitchen"]]'


def checked(pairs: Iterable[tuple[str, str]], where: str) -> Slots:
    """The pairs as they are; UserError naming ``where`` if one is empty or breaks a line.

    Both would be lost where slots are written into one line of text and read back from it.
    """
    slots = tuple(pairs)
    for slot in slots:
        fault = slot_fault(slot)
        if fault:
            raise UserError(f"{where}: slot {slot}: {fault}; write both as one line of text.")
    return slots


def slots_of_cell(cell: Any, where: str) -> Slots:
    """Slots that a user wrote into a cell of a table, without outer spaces; () if it is empty.

    cell: JSON text, or what a .jsonl or .parquet file has there: an object of types and values, or
    a list of pairs, which may name a type twice. A null in an object is no slot (the rows of a
    Parquet struct have all its fields). UserError naming ``where`` and the cell: of another form.
    """
    text = cell.strip(BLANK) if isinstance(cell, str) else None
    # NaN, the only value that differs from itself, is how Parquet files mark missing numbers.
    if cell is None or cell != cell or text == "":
        return ()
    try:
        pairs = cell if text is None else json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} {cell!r} is not JSON ({error}); write {FORMS}.") from error
    if isinstance(pairs, dict):
        pairs = [pair for pair in pairs.items() if pair[1] is not None]
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        raise UserError(f"{where} {cell!r} holds no pairs of texts; write {FORMS}.")
    return checked(((kind.strip(BLANK), value.strip(BLANK)) for kind, value in pairs), where)


def _is_pair(pair: Any) -> bool:
    """A type and a value; pyarrow makes tuples of a map's."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    return all(isinstance(part, str) for part in pair)


def slot_notes(manifest: Manifest) -> list[str]:
    """What a check of the data tells of slots, if there are any: how many, and of which types."""
    if manifest.slots is None:
        return []
    types = Counter(kind for slots in manifest.slots for kind, _ in slots)
    listed = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(types.items()))
    have = sum(map(bool, manifest.slots))
    return [f"{have:,} of {len(manifest):,} recordings have slots: {listed}"]
