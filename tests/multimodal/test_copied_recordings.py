"""Whatever makes recordings of recordings keeps every field that it does not mean to change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from multimodal.datasets.case_table import as_table, of_modalities, with_digests
from multimodal.datasets.findings import with_validation
from multimodal.datasets.matching import Pairing, pair
from multimodal.datasets.splits import hold_out_validation
from multimodal.recordings import Manifest, Recording


def signal() -> np.ndarray:
    return np.zeros((1, 8))


def full(number: int) -> Recording:
    """Every field is another than the default, and tells which recording it is of."""
    row = Recording(
        uid=f"{number}.wav",
        labels=(number % 2,),
        unknown=(2,),
        split="train" if number < 8 else "test",
        path=Path(f"/data/{number}.wav"),
        group=f"speaker {number}",
        text=f"words {number}",
        start=0.5 + number,
        duration=1.0 + number,
        make=signal,
        slots=(("object", "lights"), ("number", str(number))),
    )
    empty = Recording("", (), "")
    same = [f.name for f in fields(Recording) if getattr(row, f.name) == getattr(empty, f.name)]
    assert not same, "fill in the new field, and see that copies keep it"
    return row


def table(modality: str = "speech") -> Manifest:
    return Manifest("d", modality, ("u", "v", "w"), tuple(map(full, range(12))), "1")


def paired(manifest: Manifest) -> Manifest:
    """Through cases of two modalities, with splits drawn anew."""
    both = {"speech": manifest, "audio": table("audio")}
    rule = Pairing(days=None, splits="seeded", test_fraction=0.4)
    cases = of_modalities(with_digests(pair(both, None, rule), Path("digests")), ("speech",))
    return cases.manifests["speech"]


COPIES: dict[str, Callable[[Manifest], Manifest]] = {
    "select": lambda m: m.select(range(3, 12)),
    "printable": lambda m: replace(
        m, recordings=tuple(replace(r, uid=f"\n{r.uid}") for r in m.recordings)
    ),
    "hold_out_validation": lambda m: hold_out_validation(m, 0.5, seed=0),
    "with_validation": lambda m: replace(m, recordings=with_validation(m.recordings, 0.5, 0)),
    "pair": paired,
}


@pytest.mark.parametrize("name", COPIES)
def test_every_other_field_survives(name: str) -> None:
    before = {r.text: r for r in table()}
    after = COPIES[name](table()).recordings
    assert len(after) >= 9
    for row in after:
        was = before[row.text]
        assert replace(row, uid=was.uid, split=was.split) == was
    if name != "select":
        assert any((r.uid, r.split) != (before[r.text].uid, before[r.text].split) for r in after)


def test_cases_have_the_slots_of_their_recordings() -> None:
    both = {"speech": table(), "audio": table("audio")}
    cases = pair(both, None, Pairing(days=None))
    for row, group in zip(as_table(cases), cases.groups, strict=True):
        number = group.split()[1]
        assert row.slots == (("object", "lights"), ("number", number)) * 2
    images = replace(table("xray"), recordings=tuple(replace(r, slots=()) for r in table("xray")))
    alone = as_table(pair({**both, "audio": images}, None, Pairing(days=None), name="c"))
    assert alone.slots is not None
    assert all(len(slots) == 2 for slots in alone.slots)
