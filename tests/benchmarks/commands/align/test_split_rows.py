"""``classes``: whichever of a recording's labels it is, and who is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import AlignData
from benchmarks.commands.align.parts import split_rows
from multimodal.recordings import Manifest, Recording

SEVERAL = [(0,), (0, 1), (1, 2), (), (2,), (0, 2)]
SINGLE = [(0,), (1,), (2,), (1,), (2,), (0,)]


class Whole:
    def usable(self, rows: np.ndarray) -> np.ndarray:
        return rows


def rows_of(labels: list[tuple[int, ...]], split: str, *classes: str) -> list[int]:
    recordings = tuple(
        Recording(uid=f"{split} {i}", labels=own, split=split, group=f"{split} {i}", path=Path("x"))
        for split in ("train", "test")
        for i, own in enumerate(labels)
    )
    manifest = Manifest(
        name="x", modality="ecg", class_names=("a", "b", "c"), recordings=recordings, version="1"
    )
    config = AlignConfig.parse(
        {"experiment": "x", "dataset": "synthetic_ecg", "objectives": ["clip"], "classes": classes}
    )
    found = split_rows(config, cast(AlignData, cast(Any, Whole())), manifest, split)
    return [int(row) % len(labels) for row in found]


@pytest.mark.parametrize("classes", [("a",), ("b",), ("c",), ("a", "b"), ("c", "a")])
def test_any_of_the_labels_counts_in_training_and_all_are_scored(classes) -> None:
    ids = {"abc".index(name) for name in classes}
    assert rows_of(SEVERAL, "train", *classes) == [i for i, o in enumerate(SEVERAL) if ids & {*o}]
    assert rows_of(SEVERAL, "test", *classes) == list(range(len(SEVERAL)))
    for split in ("train", "test"):
        assert rows_of(SINGLE, split, *classes) == [i for i, o in enumerate(SINGLE) if ids & {*o}]
