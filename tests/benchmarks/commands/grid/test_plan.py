"""From a grid's YAML to its cells."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.grid.config import GridConfig
from benchmarks.commands.grid.plan import Plan, expand
from benchmarks.config.loading import load_config
from multimodal.errors import UserError
from tests.toy import toy_data


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """``plan(**grid)``: of toy.yaml, and other.yaml of another experiment."""
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(toy_data()))
    Path("other.yaml").write_text(yaml.safe_dump(toy_data(experiment="other", seeds=[5])))

    def make(**grid: Any) -> Plan:
        Path("grid.yaml").write_text(yaml.safe_dump({"base": "toy.yaml", **grid}))
        return expand(load_config(Path("grid.yaml"), model=GridConfig))

    return make


def hashes(plan: Plan) -> list[str]:
    return [cell.config.hash for cell in plan.cells]


def of(**changes: Any) -> str:
    """The hash that a config written by hand has."""
    return RunConfig.parse(toy_data(**changes)).hash


def test_a_product_is_every_combination_by_hand(plan) -> None:
    found = plan(
        product={"learners": ["er", {"name": "er", "memory_size": 9}], "training.epochs": [1, 3]},
        seeds=[1, 2],
    )
    training: Any = toy_data()["training"]
    wanted = [
        of(learners=[learner], training={**training, "epochs": epochs}, seeds=[seed])
        for learner, epochs, seed in itertools.product(
            ["er", {"name": "er", "memory_size": 9}], [1, 3], [1, 2]
        )
    ]
    assert hashes(found) == wanted
    assert len(set(wanted)) == 8
    assert not found.notes
    assert found.cells[-1].title == "toy class_incremental er seed 2, epochs=3"


def test_a_grids_cell_is_the_run_that_bench_makes(plan) -> None:
    (cell,) = plan(product={"learners": ["majority"]}).cells
    (alone,) = load_config(Path("toy.yaml"), ["learners=[majority]"], model=RunConfig).cells()
    assert cell.config == alone
    assert cell.config.folder == alone.folder


def test_lists_that_are_zipped_go_together(plan) -> None:
    found = plan(
        zip={"training.epochs": [1, 2], "training.batch_size": [4, 16]},
        product={"scenario.num_experiences": [2, 4]},
    )
    pairs = [(c.config.training.epochs, c.config.training.batch_size) for c in found.cells]
    assert pairs == [(1, 4), (2, 16), (1, 4), (2, 16)]
    with pytest.raises(UserError, match=r"zip: .*batch_size has 1, training.epochs has 2 values"):
        plan(zip={"training.epochs": [1, 2], "training.batch_size": [4]})
    with pytest.raises(UserError, match="seeds: stands in product and in zip"):
        plan(zip={"seeds": [1]}, product={"seeds": [1]})


def test_cells_are_added_to_the_bases_that_they_name(plan) -> None:
    found = plan(
        base=["toy.yaml", "other.yaml"],
        cells=[{"learners": ["er"]}, {"base": "other.yaml", "seeds": 7, "learners": "majority"}],
    )
    told = [(c.config.experiment, c.row, c.seed) for c in found.cells]
    assert told == [("toy", "er", 1), ("other", "er", 5), ("other", "majority", 7)]
    with pytest.raises(UserError, match=r"base 'third.yaml' is none of toy.yaml"):
        plan(cells=[{"base": "third.yaml"}])


def test_what_is_excluded_is_left_out_by_name_value_or_part(plan) -> None:
    er = {"name": "er", "memory_size": 9}
    product = {"learners": [er, "majority", "finetune"], "training.epochs": [1, 2]}
    rules = [
        {"learners": "majority", "training.epochs": 2},
        {"learners": {"memory_size": 9}},
        {"scenario": "domain_incremental"},
    ]
    found = plan(product=product, exclude=rules)
    told = [(c.row, c.config.training.epochs) for c in found.cells]
    assert told == [("majority", 1), ("finetune", 1), ("finetune", 2)]
    assert found.notes == ["exclude: scenario=domain_incremental fits no cell."]
    with pytest.raises(UserError, match=r"exclude: leaves none"):
        plan(exclude=[{"dataset": "toy"}])
    with pytest.raises(UserError, match="would leave every cell out"):
        plan(exclude=[{}])


def test_duplicates_are_told_and_made_once(plan) -> None:
    found = plan(product={"learners": ["er"]}, cells=[{"learners": "er"}], seeds=[1])
    assert len(found.cells) == 1
    (note,) = found.notes
    assert "the same run as toy class_incremental er seed 1; it is made once" in note


def test_settings_of_all_cells_are_nested_or_dotted(plan) -> None:
    found = plan(
        settings={"training": {"epochs": 3}, "encoder.width": 8, "dataset": {"name": "toy"}},
        quick=True,
        output_dir="elsewhere",
        experiment="mine",
        tracking={"store": "none", "log_models": False},
    )
    (cell,) = found.cells
    assert cell.config.training.epochs == 3
    assert cell.config.training.batch_size == 8  # of the base
    assert cell.config.encoder.width == 8
    assert cell.config.encoder.depth == 1
    assert cell.config.folder.parent == Path("elsewhere/mine")
    assert cell.config.quick
    assert not cell.config.tracking.log_models


def test_all_problems_are_told_at_once_with_what_made_them(plan) -> None:
    with pytest.raises(UserError) as caught:
        plan(product={"learners": [{"name": "majority", "memory_size": 3}], "seeds": [1, -1]})
    lines = str(caught.value).splitlines()
    assert sum("unknown key" in line and "memory_size" in line for line in lines) == 2
    assert any("seeds" in line for line in lines)
    assert "(with learners=majority(memory_size=3), seeds=-1)" in str(caught.value)
    with pytest.raises(UserError, match="no such config file"):
        plan(base="nowhere.yaml")
    Path("zero.yaml").write_text("experiment: z\nmodel: aligned\ndataset: toy\n")
    with pytest.raises(UserError, match="is no config of medley bench, align, finetune"):
        plan(base="zero.yaml")
    with pytest.raises(UserError, match=r"select.among: training.momentum is nowhere varied"):
        plan(select={"among": ["training.momentum"]})


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 3), max_size=3),
    rows=st.integers(0, 3),
    seeds=st.sets(st.integers(0, 99), min_size=1, max_size=3),
)
def test_the_number_of_cells(tmp_path_factory, lengths, rows, seeds) -> None:
    keys = ("training.epochs", "training.batch_size", "training.log_every")
    base = tmp_path_factory.getbasetemp() / "counted.yaml"
    base.write_text(yaml.safe_dump(toy_data()))
    grid = {
        "base": str(base),
        "product": {k: list(range(1, n + 1)) for k, n in zip(keys, lengths, strict=False)},
        "zip": {"training.eval_batch_size": list(range(1, rows + 1))} if rows else {},
        "seeds": sorted(seeds),
    }
    found = expand(GridConfig.parse(grid))
    count = len(seeds) * max(rows, 1)
    for n in lengths:
        count *= n
    assert len(found.cells) == len(set(hashes(found))) == count


def test_fine_tuning_and_alignment_are_cells_too(plan) -> None:
    found = plan(
        base=["align/spoken_commands_cwcl", "finetune/fsdd_lora"], seeds=[3], data_root="DATA"
    )
    assert {cell.config.command for cell in found.cells} == {"align", "finetune"}
    assert all(cell.seed == 3 for cell in found.cells)
    assert {cell.scenario for cell in found.cells} == {"align", "finetune"}


def test_titles_tell_what_no_column_tells(plan) -> None:
    stream = {"name": "class_incremental", "num_experiences": 4}
    found = plan(
        product={"scenario": [stream, "domain_incremental"], "training.epochs": [7]},
        settings={"dataset.shared_groups": True},
    )
    assert [cell.changes for cell in found.cells] == ["num_experiences=4, epochs=7", "epochs=7"]
