"""The run of a whole config: what its cells amount to, and what a lost store missed."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.several import Several
from benchmarks.config.loading import validate
from benchmarks.results.result import Result
from benchmarks.runs import session
from benchmarks.tracking import parent as parents
from benchmarks.tracking.parent import PARENT_TAG, Parent
from benchmarks.tracking.store import connect
from continual.metrics import confidence_interval
from tests.benchmarks.tracking_place import lose
from tests.toy import toy_data


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(parents, "INTERVAL", 0.0)
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])


@pytest.fixture
def config(tmp_path, empty_store) -> RunConfig:
    """Two learners, two seeds."""
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    data = toy_data(
        learners=["majority", {"name": "finetune"}],
        seeds=[1, 2],
        training={"epochs": 1, "device": "cpu"},
        tracking={"store": "mlflow", "log_models": True},
        output_dir=str(tmp_path),
        quick=True,
    )
    return validate(RunConfig, data, source="toy")


def ran(config: RunConfig) -> list[Result]:
    from rich.console import Console

    return Several.checked([config], 1).run(Console(quiet=True))


def store(config: RunConfig) -> tuple[Any, list[Any]]:
    """The client and all runs."""
    client = connect(f"sqlite:///{Path(config.output_dir) / 'mlflow.db'}")
    ids = [client.get_experiment_by_name(config.experiment).experiment_id]
    return client, client.search_runs(ids)


def whole(config: RunConfig) -> tuple[Any, list[Any]]:
    """The parent and its children."""
    _, runs = store(config)
    (top,) = [run for run in runs if PARENT_TAG not in run.data.tags]
    below = [run for run in runs if run.data.tags.get(PARENT_TAG) == top.info.run_id]
    assert len(below) == len(runs) - 1
    return top, below


def test_cells_are_children_of_a_run_with_their_means(config) -> None:
    results = ran(config)
    top, below = whole(config)
    assert top.info.status == "FINISHED"
    assert len(below) == 4
    metrics = top.data.metrics
    for learner in ("majority", "finetune"):
        own = [r.metrics["last_accuracy"] for r in results if r.learner == learner]
        name = f"last_accuracy/{learner}"
        assert metrics[f"{name}/mean"] == pytest.approx(statistics.fmean(own))
        assert metrics[f"{name}/std"] == pytest.approx(statistics.stdev(own))
        assert metrics[f"{name}/ci95"] == pytest.approx(confidence_interval(own, level=0.95)[1])
    assert "4 of 4 cells are done" in top.data.tags["mlflow.note.content"]
    assert "| finetune |" in top.data.tags["mlflow.note.content"]
    assert top.data.params["training.epochs"] == "1"
    assert "learner" not in top.data.params
    assert sorted(run.data.params["learner"] for run in below) == [
        *("finetune", "finetune"),
        *("majority", "majority"),
    ]
    assert {run.data.params["seed"] for run in below} == {"1", "2"}
    assert len({run.info.run_name for run in below}) == 4


def test_again_is_the_same_run(config) -> None:
    ran(config)
    before, _ = whole(config)
    ran(config)
    after, below = whole(config)
    assert after.info.run_id == before.info.run_id
    assert len(below) == 4
    client, _ = store(config)
    history = client.get_metric_history(after.info.run_id, "last_accuracy/finetune/mean")
    assert len({(m.step, m.value) for m in history}) == len(history)


def test_a_run_of_another_config_keeps_its_parent(config) -> None:
    ran(config)
    top, _ = whole(config)
    fewer = config.model_copy(update={"learners": config.learners[:1]})
    ran(fewer)
    _, runs = store(config)
    tops = [run for run in runs if PARENT_TAG not in run.data.tags]
    assert len(tops) == 2
    assert {r.data.tags[PARENT_TAG] for r in runs if r not in tops} == {top.info.run_id}


def test_a_lost_store_gets_all_with_the_next_cell(config, monkeypatch, capsys) -> None:
    from mlflow import MlflowClient

    grid = Cells(config)
    parent = Parent(grid.cells, config.to_yaml())
    with monkeypatch.context() as lost:
        grid_run(grid, 0)
        lose(MlflowClient, lost)
        lost.setattr(MlflowClient, "search_runs", gone)
        grid_run(grid, 1)
        parent.update()
        parent.update()
    assert capsys.readouterr().err.count("what the cells of 'toy'") == 1
    for number in (2, 3):
        grid_run(grid, number)
    parent.update(ended=True)
    top, below = whole(config)
    assert top.info.status == "FINISHED"
    assert len(below) == 4
    assert all(run.info.status == "FINISHED" for run in below)
    assert all("last_accuracy" in run.data.metrics for run in below)


def grid_run(grid: Cells, number: int) -> None:
    grid.run_cell(number)


def gone(*args: object, **kwargs: object) -> None:
    raise ConnectionError("server went away")


def test_cells_that_are_missing_at_the_end_fail_the_whole(config) -> None:
    grid = Cells(config)
    grid.run_cell(0)
    parent = Parent(grid.cells, config.to_yaml())
    parent.update()
    top, _ = whole(config)
    assert top.info.status == "RUNNING"
    parent.update(ended=True)
    top, _ = whole(config)
    assert top.info.status == "FAILED"


def test_a_single_cell_has_no_parent(config) -> None:
    ran(config.model_copy(update={"learners": config.learners[:1], "seeds": (1,)}))
    _, runs = store(config)
    assert len(runs) == 1
    assert PARENT_TAG not in runs[0].data.tags


def test_a_description_ends_with_a_whole_row() -> None:
    rows = [f"| learner {number} | 0.123 |" for number in range(2000)]
    text = parents._fitting(rows)
    assert len(text) <= parents.MOST_LETTERS
    *kept, empty, more = text.split("\n")
    assert kept == rows[: len(kept)]
    assert len(kept) > 250
    assert (empty, more) == ("", "The other rows stand in report.html.")
    assert parents._fitting(rows[:10]) == "\n".join(rows[:10])


def test_a_run_that_was_deleted_meanwhile_is_made_again_with_all_that_it_had(config) -> None:
    ran(config)
    before, _ = whole(config)
    parent = Parent(list(config.cells()), config.to_yaml())
    parent.update()
    client, _ = store(config)
    client.delete_run(before.info.run_id)
    parent.update(ended=True)
    _, runs = store(config)
    (after,) = [run for run in runs if PARENT_TAG not in run.data.tags]
    assert after.info.run_id != before.info.run_id
    assert after.data.metrics == before.data.metrics
