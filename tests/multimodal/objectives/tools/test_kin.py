"""Who shares labels, against sets."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.objectives.tools.kin import classes, firsts, kin

SETS = st.lists(st.frozensets(st.integers(0, 3)), min_size=1, max_size=6)


@given(SETS, st.integers(0, 63))
def test_several_labels_are_sets(sets: list[frozenset[int]], mask: int) -> None:
    absent = (0.0, torch.nan)  # unknown is absent
    rows = [
        [1.0 if c in own else absent[(c + i) % 2] for c in range(4)] for i, own in enumerate(sets)
    ]
    found = kin(torch.tensor(rows), torch.float64)
    assert found.share.tolist() == [[bool(a & b) for b in sets] for a in sets]
    assert found.equal.tolist() == [[a == b for b in sets] for a in sets]
    jaccard = [[len(a & b) / max(len(a | b), 1) for b in sets] for a in sets]
    assert found.overlap.tolist() == jaccard
    assert found.labelled.tolist() == [bool(a) for a in sets]
    among = [bool(mask >> i & 1) for i in range(len(sets))]
    seen: list[frozenset[int]] = []
    for own, there, first in zip(
        sets, among, firsts(found.equal, torch.tensor(among)), strict=True
    ):
        assert first == (there and own not in seen)
        seen += [own] * there
    number = classes(torch.tensor(rows), found.equal, torch.tensor(among))
    assert number == len(frozenset().union(*seen))


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=6))
def test_one_label_each(labels: list[int]) -> None:
    found = kin(torch.tensor(labels), torch.float32)
    same = [[a == b for b in labels] for a in labels]
    assert found.share.tolist() == found.equal.tolist() == found.overlap.bool().tolist() == same
    assert found.labelled.all()
    every = torch.ones(len(labels), dtype=torch.bool)
    assert classes(torch.tensor(labels), found.equal, every) == len(set(labels))
