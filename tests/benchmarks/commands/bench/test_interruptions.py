"""What a grid does when its store or its process dies at an awkward moment."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.report import run_folders, run_report
from benchmarks.config.loading import validate
from benchmarks.results.result import Result
from benchmarks.runs import session as session_module
from multimodal.errors import UserError
from tests.toy import toy_data


def make(tmp_path: Path, *, fresh: bool = False, **changes: object) -> Cells:
    data = toy_data(output_dir=str(tmp_path), **changes)
    return Cells(validate(RunConfig, data, source="toy"), fresh=fresh)


def test_a_store_lost_between_cells_stops_no_run(tmp_path, monkeypatch, capsys) -> None:
    class Lost:
        def start(self, *facts: object) -> None:
            raise UserError("MLflow store x failed (gone); fix it.")

        def fail(self) -> None:
            raise AssertionError("a lost tracker is not used again")

    grid = make(tmp_path, learners=["finetune", "majority"])
    monkeypatch.setattr(session_module, "make_tracker", lambda *a, **k: Lost())
    for number in range(2):
        assert grid.run_cell(number).metrics["average_accuracy"] >= 0
    assert capsys.readouterr().err.count("goes on untracked") == 2


def test_an_unreachable_store_is_refused_before_fresh_clears_anything(tmp_path) -> None:
    grid = make(tmp_path)
    grid.run_cell(0)
    kept = {p: p.read_bytes() for p in grid.cells[0].folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"fix tracking\.uri"):
        make(tmp_path, fresh=True, tracking={"store": "mlflow", "uri": "http://127.0.0.1:9"})
    assert {p: p.read_bytes() for p in kept} == kept


def test_fresh_clears_every_cell_at_once(tmp_path) -> None:
    grid = make(tmp_path, learners=["finetune", "majority"])
    for number in range(2):
        grid.run_cell(number)
    make(tmp_path, learners=["finetune", "majority"], fresh=True).clear()  # and is killed
    again = make(tmp_path, learners=["finetune", "majority"])
    assert again.done == [None, None]


def test_a_signal_during_the_last_evaluation_is_heard(tmp_path) -> None:
    class Stop:
        def begin(self, total_steps: int, done_steps: int) -> None: ...
        def step(self, strategy: object) -> None: ...
        def experience_done(
            self, index: int, count: int, measure: str, scores: list[float]
        ) -> None:
            if index == count - 1:
                os.kill(os.getpid(), signal.SIGINT)

    grid = make(tmp_path, learners=["majority"])
    with pytest.raises(KeyboardInterrupt):
        grid.run_cell(0, Stop())
    assert make(tmp_path, learners=["majority"]).done[0] is not None


def test_a_run_killed_after_its_result_gets_its_page_back(tmp_path) -> None:
    grid = make(tmp_path)
    result = grid.run_cell(0)
    page = grid.cells[0].folder / "report.html"
    page.unlink()
    assert make(tmp_path).run_cell(0) == result
    assert page.exists()


def test_runs_without_a_result_can_be_resent(tmp_path, capsys) -> None:
    training = {"epochs": 2, "batch_size": 8, "device": "cpu", "learning_rate": 1e30}
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    grid = make(tmp_path, training=training, tracking={"store": "mlflow", "uri": uri})
    with pytest.raises(UserError, match=r"lower training\.learning_rate"):
        grid.run_cell(0)
    folder = grid.cells[0].folder
    assert run_folders(tmp_path) == [folder]
    run_report(folder, resend_runs=True)
    assert f"{folder}: sent" in capsys.readouterr().out
    assert json.loads((folder / "tracking.json").read_text())["status"] == "FAILED"
    with pytest.raises(UserError, match="no run in it"):
        run_folders(tmp_path / "empty")


def test_the_baseline_of_forward_transfer_survives_a_resume(tmp_path) -> None:
    changes = {
        "dataset": {"name": "toy", "shared_groups": True},
        "scenario": "domain_incremental",
        "learners": ["majority"],
    }
    whole = make(tmp_path / "whole", **changes).run_cell(0)

    class Stop:
        def begin(self, total_steps: int, done_steps: int) -> None: ...
        def step(self, strategy: object) -> None: ...
        def experience_done(
            self, index: int, count: int, measure: str, scores: list[float]
        ) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", **changes).run_cell(0, Stop())
    again = make(tmp_path / "cut", **changes).run_cell(0)
    assert again.metrics == whole.metrics


def test_results_of_other_data_are_not_reused(tmp_path) -> None:
    grid = make(tmp_path)
    folder = grid.cells[0].folder
    result = grid.run_cell(0)
    changed = {**result.dataset, "content_hash": "0" * 16}
    Result(**{**vars(result), "dataset": changed}).save(folder)
    with pytest.raises(UserError, match="the dataset has changed since this run began"):
        make(tmp_path)
