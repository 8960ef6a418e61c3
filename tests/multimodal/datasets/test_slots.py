"""Slots that people write into cells of tables."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.datasets.slots import checked, slot_notes, slots_of_cell
from multimodal.errors import UserError
from multimodal.recordings import slot_fault
from tests.toy import toy_manifest

PLAIN = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)
PAIRS = st.lists(st.tuples(PLAIN, PLAIN), max_size=4)


@given(PAIRS)
def test_lists_of_pairs_are_read_as_they_are(pairs: list[tuple[str, str]]) -> None:
    assert slots_of_cell(json.dumps(pairs), "here") == tuple(pairs)
    assert slots_of_cell([list(pair) for pair in pairs], "here") == tuple(pairs)
    assert slots_of_cell(pairs, "here") == tuple(pairs)  # a map of a Parquet file
    if len({kind for kind, _ in pairs}) == len(pairs):
        assert slots_of_cell(json.dumps(dict(pairs)), "here") == tuple(pairs)
        assert slots_of_cell(dict(pairs), "here") == tuple(pairs)


@pytest.mark.parametrize("cell", [None, float("nan"), "", " \u200b", "{}", "[]", {}, []])
def test_no_slots(cell: object) -> None:
    assert slots_of_cell(cell, "here") == ()


def test_nulls_and_outer_spaces() -> None:
    cell = {"location": " kitchen\ufeff", "object": None}
    assert slots_of_cell(cell, "here") == (("location", "kitchen"),)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("kitchen", "'kitchen' is not JSON"),
        ("{'location': 'kitchen'}", "is not JSON"),
        ('{"item": "milk", "item": "bread"}', "is not JSON (a key occurs twice)"),
        ("[" * 100_000, "is not JSON"),
        ("null", "'null' holds no pairs of texts"),
        ("NaN", "holds no pairs of texts"),
        ('"kitchen"', "holds no pairs of texts"),
        (7, "here 7 holds no pairs of texts"),
        (True, "holds no pairs of texts"),
        ('{"number": 7}', "holds no pairs of texts"),
        ('{"location": {"room": "kitchen"}}', "holds no pairs of texts"),
        ('["location", "kitchen"]', "holds no pairs of texts"),
        ('["ab", "cd"]', "holds no pairs of texts"),
        ('[["location", "kitchen", "now"]]', "holds no pairs of texts"),
        ('[["location", null]]', "holds no pairs of texts"),
        ('{"location": " "}', "here: slot ('location', ''): its value is empty"),
        ('{"": "kitchen"}', "its type is empty"),
        ('{"location": "the\\nkitchen"}', "its value breaks a line"),
        ('{"the\\u2029room": "kitchen"}', "its type breaks a line"),
    ],
)
def test_other_cells_are_refused(cell: object, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        slots_of_cell(cell, "here")
    assert str(caught.value).startswith("here")


@given(st.text())
def test_a_fault_is_what_does_not_come_back_from_lines(text: str) -> None:
    lost = not text.strip() or f"{text}\nnext".splitlines() != [text, "next"]
    assert bool(slot_fault(("type", text))) == bool(slot_fault((text, "value"))) == lost


def test_checked_names_the_place() -> None:
    assert checked([("a", "b c")], "f.csv, line 3") == (("a", "b c"),)
    with pytest.raises(UserError, match=r"^f\.csv, line 3: slot \('a', ''\): its value is empty"):
        checked([("a", "b"), ("a", "")], "f.csv, line 3")


def test_notes_count_types() -> None:
    plain = toy_manifest(num_classes=2, train=2, test=1)
    assert slot_notes(plain) == []
    slots = (("object", "lights"), ("location", "kitchen"), ("object", "lamp"))
    rows = (replace(plain.recordings[0], slots=slots), *plain.recordings[1:])
    noted = slot_notes(replace(plain, recordings=rows))
    assert noted == ["1 of 6 recordings have slots: location (1), object (2)"]
