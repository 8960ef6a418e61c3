"""The grids that are shipped: everything there is, and every cell a config of its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.commands.grid.config import GridConfig
from benchmarks.commands.grid.plan import expand
from benchmarks.config.loading import load_config
from continual.learner import LEARNERS

FOLDER = Path(__file__).parents[4] / "configs" / "grid"
SCENARIOS = {"class_incremental", "si_blurry"}


@pytest.mark.parametrize(
    ("name", "modalities", "data"),
    [("everything_synthetic", 5, 5), ("everything_real", 5, 7)],
)
def test_everything_is_every_learner_on_every_modality_in_both_streams(
    name, modalities, data
) -> None:
    plan = expand(load_config(FOLDER / f"{name}.yaml", ["data_root=DATA"], model=GridConfig))
    assert not plan.notes
    assert len(plan.cells) == data * len(SCENARIOS) * len(LEARNERS.names())
    found = {
        (c.config.modality.registered_name, c.scenario, c.config.learners[0].registered_name)  # pyright: ignore
        for c in plan.cells
    }
    assert len({modality for modality, *_ in found}) == modalities
    assert {(s, learner) for _, s, learner in found} == {
        (s, learner) for s in SCENARIOS for learner in LEARNERS.names()
    }
    assert {c.config.experiment for c in plan.cells} == {name}


def test_there_are_no_others() -> None:
    assert {p.stem for p in FOLDER.glob("*")} == {"everything_real", "everything_synthetic"}
