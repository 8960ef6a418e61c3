"""Grids that are shipped, and those of docs/grid.md: every cell is a config of its command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.grid.config import GridConfig
from benchmarks.commands.grid.plan import expand
from benchmarks.config.loading import load_config
from continual.learner import LEARNERS
from multimodal.objectives import OBJECTIVES
from tests.docs_page import FENCE
from tests.toy import toy_data

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "configs" / "grid"
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


def needs_more(objective: Any) -> bool:
    """Than a recording as it is and its text: scenes, or augmented views."""
    return bool(objective.extra_texts or objective.augmented)


def test_what_is_compared_was_among_the_choices() -> None:
    """Rows of the tables of docs/objectives.md, but for the controls that stand last."""
    grid = load_config(FOLDER / "objectives.yaml", ["data_root=DATA"], model=GridConfig)
    plan = expand(grid)
    assert not plan.notes
    tried: dict[str, list[str]] = {}
    for cell in plan.cells:
        row = cell.config.objectives[0]  # pyright: ignore[reportAttributeAccessIssue]
        tried.setdefault(cell.config.experiment, []).append(row.model_dump_json())
    bases = [ROOT / "configs" / f"{base}.yaml" for base in grid.base]
    assert {p.stem for p in bases} == {p.stem for p in bases[0].parent.glob("objectives_*")}
    for base in bases:
        config = load_config(base, ["data_root=DATA"], model=AlignConfig)
        rows = [row.model_dump_json() for row in config.objectives]
        controls = rows.index(OBJECTIVES.parse("clip").model_dump_json())
        assert set(rows[:controls]) <= set(tried[config.experiment])
        names = [row.registered_name for row in config.objectives[:controls]]
        several = set() if config.views else {"more", "gram"}
        every = {name for name in OBJECTIVES.names() if not needs_more(OBJECTIVES.parse(name))}
        assert sorted(names) == sorted(every - several)


def test_there_are_no_others() -> None:
    known = {"everything_real", "everything_synthetic", "objectives"}
    assert {p.stem for p in FOLDER.glob("*")} == known


def test_the_page_shows_grids_that_can_be_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    online = {"name": "si_blurry", "num_tasks": 2}
    Path("my.yaml").write_text(yaml.safe_dump(toy_data(scenario=online)))
    page = (ROOT / "docs" / "grid.md").read_text("utf-8")
    blocks = [yaml.safe_load(text) for kind, text in FENCE.findall(page) if kind == "yaml"]
    grids = [block for block in blocks if "base" in block]
    assert len(grids) == 2
    settings = {"grid.yaml": grids[0], "select.yaml": grids[1]}
    launchers = [block for block in blocks if block.keys() == {"launcher"}]
    assert len(launchers) == 2
    settings |= {f"{i}.yaml": {"base": "my.yaml", **b} for i, b in enumerate(launchers)}
    plans = {}
    for name, data in settings.items():
        Path(name).write_text(yaml.safe_dump(data))
        plans[name] = expand(load_config(Path(name), model=GridConfig))
    # Two bases, three seeds: two learners, two rates, two sizes less the rule's; and one cell more.
    assert len(plans["grid.yaml"].cells) == 2 * 3 * (2 * 2 * 2 - 2 + 1)
    assert len(plans["select.yaml"].cells) == 3 * 2 * 3
    assert not any(plan.notes for plan in plans.values())
