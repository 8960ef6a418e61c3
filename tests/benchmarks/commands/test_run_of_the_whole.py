"""Commands of several runs tell the run of the whole of each that is done."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.commands.align import command as align
from benchmarks.commands.finetune import command as finetune
from benchmarks.commands.zeroshot import command as zeroshot

ZERO = """\
experiment: zero
dataset: {name: folder, root: clips, modality: speech}
model: {name: aligned, experiment: tones}
tracking: {store: none}
"""


@pytest.fixture
def told(monkeypatch) -> list[Any]:
    """How many cells the whole has, then after each whether it was the last."""
    told: list[Any] = []

    class Spy:
        def __init__(self, cells: Any, text: str) -> None:
            told.append(len(cells))

        def update(self, *, ended: bool = False) -> None:
            told.append(ended)

    for command in (align, finetune, zeroshot):
        monkeypatch.setattr(command, "Parents", Spy)
    return told


def test_of_alignments_and_of_their_evaluation(medley, tones, told) -> None:
    (tones / "zero.yaml").write_text(ZERO)
    assert medley("align", "align.yaml", "objectives=[clip, siglip]", "training.epochs=1").code == 0
    assert told == [2, False, True]
    told.clear()
    assert medley("zeroshot", "zero.yaml").code == 0
    assert told == [2, False, True]


def test_of_fine_tunings(medley, tuned, told) -> None:
    assert medley("finetune", "tune.yaml", "methods=[random, head]", "seeds=[1, 2]").code == 0
    assert told == [4, False, False, False, True]
