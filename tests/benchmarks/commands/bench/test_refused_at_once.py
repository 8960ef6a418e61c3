"""A learner that cannot run stops the whole grid before the first cell, whichever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from multimodal.errors import UserError
from tests.toy import toy_data

EPOCHS = {"name": "class_incremental", "num_experiences": 2}
ONLINE = {"name": "si_blurry", "num_tasks": 2, "eval_period": 4}
SMALL = {"memory_size": 3}
ROOM = "memory_size=3: .* of the 4 classes; give 4 or more"
SEVERAL = "several labels or none"

BAD: list[tuple[dict[str, Any], str, dict[str, Any], str]] = [
    (ONLINE, "toy", {"name": "replay"}, "'replay' comes back to recordings"),
    (ONLINE, "toy", {"name": "replay", "policy": "herding"}, "'replay' comes back to recordings"),
    (ONLINE, "toy", {"name": "er", "epochs": 2}, "'er': epochs has no meaning"),
    (ONLINE, "toy", {"name": "er", "policy": "class_balanced", **SMALL}, ROOM),
    (ONLINE, "toy", {"name": "clib", **SMALL}, ROOM),
    (ONLINE, "toy", {"name": "rm", **SMALL}, ROOM),
    (ONLINE, "toy", {"name": "l2p", "pool_size": 5, "selection": 6}, "selection=6 of a pool of 5"),
    (ONLINE, "toy", {"name": "er", "head": {"whiten": True}}, r"head\.whiten: .* is trained"),
    (ONLINE, "toy_chords", {"name": "er_ace"}, SEVERAL),
    (ONLINE, "toy_chords", {"name": "slda"}, SEVERAL),
    (ONLINE, "toy_chords", {"name": "er", "batch_class_mask": True}, SEVERAL),
    (EPOCHS, "toy", {"name": "replay", "policy": "herding", **SMALL}, ROOM),
    # Recordings without a label are a class of their own to a memory.
    (
        EPOCHS,
        "toy_chords",
        {"name": "replay", "policy": "herding", "memory_size": 4},
        "'replay', memory_size=4: .* of the 5 classes; give 5 or more",
    ),
    (EPOCHS, "toy", {"name": "rm", **SMALL}, ROOM),
    (EPOCHS, "toy_chords", {"name": "slda"}, SEVERAL),
]


def grid(folder: Path, scenario: dict[str, Any], dataset: str, learner: dict[str, Any]) -> Cells:
    """A learner in front of which a healthy one would train."""
    learners = ["finetune", learner]
    data = toy_data(
        learners=learners, dataset=dataset, scenario=scenario, output_dir=str(folder), quick=True
    )
    return Cells(validate(RunConfig, data, source="x"))


@pytest.mark.parametrize(("scenario", "dataset", "learner", "words"), BAD)
def test_nothing_trains(
    tmp_path: Path, scenario: dict[str, Any], dataset: str, learner: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        grid(tmp_path, scenario, dataset, learner)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("config.yaml"))


def test_room_for_the_classes_that_are_met_is_enough_for_herding(tmp_path: Path) -> None:
    learner = {"name": "replay", "policy": "herding", "memory_size": 4}
    result = grid(tmp_path, EPOCHS, "toy", learner).run_cell(1)
    assert result.learner == "replay"
    short = {"name": "class_incremental", "num_experiences": 4}  # quick: two of them, two classes
    assert grid(tmp_path, short, "toy", {**learner, "memory_size": 2}).run_cell(1).learner
