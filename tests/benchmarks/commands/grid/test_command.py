"""``medley grid`` as a user runs it, and what may happen to it meanwhile."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.one import run_one
from benchmarks.commands.grid.command import run_cells
from benchmarks.commands.grid.config import GridConfig
from benchmarks.commands.grid.plan import Plan, expand
from benchmarks.commands.grid.work import PRELOAD, work
from benchmarks.launchers import Event
from benchmarks.launchers.local import LocalLauncher
from benchmarks.results.failures import FAILURE_FILE, Failure
from benchmarks.results.result import Result
from benchmarks.runs.attempts import as_plain, attempt
from benchmarks.runs.states import state_of
from benchmarks.runs.workspace import run_lock
from multimodal.errors import UserError
from tests.benchmarks.commands.grid import toys
from tests.benchmarks.full_disk import Disk
from tests.toy import toy_data

assert toys  # registers datasets
GRID = {
    "base": "toy.yaml",
    "product": {"learners": ["majority", "finetune", "replay"], "scenario": ["si_blurry"]},
    "cells": [{"learners": "replay", "training.epochs": 1}],
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(toy_data()))
    return tmp_path


def planned(**grid: Any) -> Plan:
    return expand(GridConfig.parse({"base": "toy.yaml", **grid}))


def run(plan: Plan, workers: int = 2) -> list[str]:
    """The state that each cell ends with."""
    launcher = LocalLauncher(workers=workers, preload=PRELOAD)
    ended = run_cells(plan.cells, launcher, Console(stderr=True), workers=workers)
    return [ended[str(cell.config.folder)].state for cell in plan.cells]


def metrics(plan: Plan) -> list[dict[str, Any]]:
    return [Result.load(cell.config.folder).metrics for cell in plan.cells]


def test_from_a_dry_run_to_a_table_and_back(medley) -> None:
    Path("grid.yaml").write_text(yaml.safe_dump(GRID))
    dry = medley("grid", "grid.yaml", "--dry-run")
    assert dry.code == 0, dry
    assert "4 new; left: time unknown (nothing like it has ended here); memory unknown" in dry.out
    assert not Path("runs").exists()

    first = medley("grid", "grid.yaml", "--workers", "2")
    assert first.code == 0, first
    assert "4 cells, 2 workers" in first.err
    for words in ("majority seed 1: done", "finetune seed 1: done", "1, epochs=1: done"):
        assert words in first.err
    assert "replay seed 1: not applicable: learner 'replay' comes" in first.err
    assert "3 of 4 done, 1 not applicable" in first.err
    assert "comes back to recordings after an" in first.out
    assert "Report: runs/toy/report.html" in first.out

    dry = medley("grid", "grid.yaml", "--dry-run")
    assert "3 done, 1 not applicable; left: about" in dry.out
    assert "MiB a worker" in dry.out
    again = medley("grid", "grid.yaml")
    assert again.code == 0
    assert again.err.count("done before, result reused") == 3

    # The same folders are those of bench, whose results are the same.
    bench = medley("bench", "toy.yaml", "learners=[replay]", "training.epochs=1")
    assert bench.err.count("done before, result reused") == 1
    folder = next(p.parent for p in Path("runs/toy").glob("*/result.json"))
    assert not (folder / FAILURE_FILE).exists()


def test_two_workers_make_the_results_of_one_process_bit_for_bit() -> None:
    grid = {"product": {"learners": ["finetune", "replay", "joint"]}, "seeds": [1, 2]}
    plan, alone = planned(**grid), planned(**grid, output_dir="x")
    assert run(plan) == ["done"] * 6
    for cell in alone.cells:
        assert isinstance(cell.config, RunConfig)
        Cells(cell.config).run_cell(0)
    assert metrics(plan) == metrics(alone)
    cache = [p for p in Path("runs/cache").iterdir() if p.is_dir()]
    assert len(cache) == 1  # signals were decoded once, for all workers
    assert len(list(cache[0].glob("shard-*"))) == 1


def test_cells_that_fail_stop_no_other_and_say_why() -> None:
    cells = [{"dataset": "toy_hungry"}, {"dataset": "toy_deadly"}, {"learners": "finetune"}]
    plan = planned(cells=cells)
    assert run(plan, 1) == ["failed", "failed", "done"]
    hungry, deadly, _ = [Failure.load(cell.config.folder) for cell in plan.cells]
    assert hungry is not None
    assert hungry.reason == "out of memory (MemoryError: 8 GiB asked for)"
    assert "toys.py" in hungry.traceback
    assert deadly is not None
    assert deadly.reason.startswith("killed by signal 9")
    assert deadly.attempts == 2
    states = [state_of(cell.config.folder) for cell in plan.cells]
    assert states == ["failed", "failed", "done"]


def test_a_cell_whose_process_was_killed_once_is_done_at_the_second_try() -> None:
    plan = planned(
        product={"dataset": [{"name": "toy_deadly", "mark": "mark"}], "learners": ["finetune"]}
    )
    assert run(plan) == ["done"]
    (cell,) = plan.cells
    assert not (cell.config.folder / FAILURE_FILE).exists()
    assert state_of(cell.config.folder) == "done"


def test_a_worker_killed_in_the_middle_leaves_a_run_that_goes_on() -> None:
    settings = {"training.epochs": 60, "training.checkpoint_every": 1}
    plan = planned(product={"learners": ["finetune"]}, settings=settings)
    (cell,) = plan.cells
    killed = []

    class Killing(LocalLauncher):
        def run(self, work: Any, tasks: Any, hear: Any) -> None:
            def heard(event: Event | None) -> None:
                begun = (cell.config.folder / "checkpoint" / "checkpoint.pt").exists()
                if begun and not killed and pids:
                    killed.append(pids[-1])
                    os.kill(pids[-1], signal.SIGKILL)
                if event is not None and event.kind == "begun":
                    pids.append(event.data["pid"])
                if event is not None and "line" in event.data:
                    lines.append(event.data["line"])
                hear(event)

            super().run(work, tasks, heard)

    pids: list[int] = []
    lines: list[str] = []
    launcher = Killing(workers=1, preload=PRELOAD)
    ended = run_cells(plan.cells, launcher, Console(stderr=True), workers=1)
    assert [end.state for end in ended.values()] == ["done"]
    assert len(set(pids)) == 2
    assert any("resumed at step" in line for line in lines)
    whole = planned(product={"learners": ["finetune"]}, settings=settings, output_dir="whole")
    Cells(whole.cells[0].config).run_cell(0)  # pyright: ignore
    assert metrics(plan) == metrics(whole)


def test_a_cell_that_another_process_is_at_is_waited_for() -> None:
    plan = planned(product={"learners": ["finetune", "majority"]})
    folder = plan.cells[0].config.folder
    folder.mkdir(parents=True)
    held, found = threading.Event(), list[list[str]]()

    def hold() -> None:
        with run_lock(folder):
            held.set()
            while not (plan.cells[1].config.folder / "result.json").exists():
                time.sleep(0.05)
            time.sleep(0.5)
            found.append([state_of(folder), *(file.name for file in folder.iterdir())])

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    assert run(plan) == ["done", "done"]
    other.join()
    assert found == [["running", ".lock"]]  # while it was held nobody touched it


def test_a_full_disk_is_a_cells_reason_and_the_next_attempt_goes_on(place, monkeypatch) -> None:
    (cell,) = planned(product={"learners": ["finetune"]}).cells
    assert isinstance(cell.config, RunConfig)
    config = cell.config
    with monkeypatch.context() as patch:
        Disk(place / "runs", errno.ENOSPC, room=20_000).install(patch)
        outcome = attempt(config, lambda: run_one(config))
    assert outcome["state"] == "failed"
    assert "make room there" in outcome["reason"]
    assert not outcome["ours"]
    assert attempt(config, lambda: run_one(config))["state"] == "done"
    assert Failure.load(config.folder) is None


def test_a_failure_counts_its_attempts_until_one_comes_to_its_end(tmp_path) -> None:
    config = planned().cells[0].config
    for count in (1, 2, 3):
        outcome = attempt(config, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        assert outcome["reason"] == "ZeroDivisionError: division by zero"
        assert outcome["ours"]
        failure = Failure.load(config.folder)
        assert failure is not None
        assert failure.attempts == count
    (config.folder / FAILURE_FILE).write_text("{")
    assert Failure.load(config.folder) is None
    assert work(as_plain(config, "a title"), lambda told: None)["state"] == "done"
    assert not (config.folder / FAILURE_FILE).exists()


def test_failed_cells_are_told_with_exit_code_2_and_tried_again(medley) -> None:
    Path("grid.yaml").write_text(
        yaml.safe_dump(
            {
                "base": "toy.yaml",
                "product": {"training.learning_rate": [1e30]},
                "settings": {"learners": ["finetune"]},
            }
        )
    )
    for attempts in (1, 2):
        outcome = medley("grid", "grid.yaml")
        assert outcome.code == 2, outcome
        (line,) = [x for x in outcome.err.splitlines() if x.startswith("error: ")]
        assert line.startswith("error: 1 of 1 cells failed; each one's folder says why, such as ")
        assert "lower training.learning_rate" in outcome.err
        (file,) = Path("runs/toy").glob(f"*/{FAILURE_FILE}")
        assert json.loads(file.read_text())["attempts"] == attempts


def test_a_config_of_another_command_is_refused(medley) -> None:
    outcome = medley("grid", "toy.yaml")
    assert outcome.code == 2
    assert "this is a config of `medley bench`, not of `medley grid`" in outcome.err
    Path("grid.yaml").write_text("base: toy.yaml\nproduct: {learners: []}\n")
    outcome = medley("grid", "grid.yaml")
    assert outcome.code == 2
    assert "product.learners: lists nothing" in outcome.err


@pytest.mark.slow
def test_a_grid_that_is_killed_takes_its_workers_along_and_goes_on(place) -> None:
    """Of the whole command, from outside: kill -9, then the same command again."""
    settings = {"training.epochs": 60, "training.checkpoint_every": 1}
    data = {"base": "toy.yaml", "settings": settings, "product": {"learners": ["finetune", "er"]}}
    Path("grid.yaml").write_text(yaml.safe_dump(data))
    root = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONPATH": str(root), "MEDLEY_PLUGINS": "tests.toy"}
    words = [sys.executable, "-m", "benchmarks.cli", "grid", "grid.yaml", "--workers", "2"]
    first = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(list(Path("runs/toy").glob("*/checkpoint/checkpoint.pt"))) < 2:
        assert time.monotonic() < deadline
        assert first.poll() is None, first.stderr
        time.sleep(0.1)
    first.kill()
    first.wait()
    folders = [p.parent.parent for p in Path("runs/toy").glob("*/checkpoint/checkpoint.pt")]
    for folder in folders:  # nobody holds them any more
        while True:
            try:
                with run_lock(folder):
                    break
            except UserError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    assert not list(Path("runs/toy").glob("*/result.json"))
    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert again.stderr.count("resumed at step") == 2
    whole = planned(settings=settings, product=data["product"], output_dir="whole")
    for cell in whole.cells:
        Cells(cell.config).run_cell(0)  # pyright: ignore[reportArgumentType]
    assert metrics(whole) == metrics(planned(settings=settings, product=data["product"]))
