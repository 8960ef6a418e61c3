"""Threads of a run: how many a model gets, and that runs beside each other do not wait busily."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import cli
from benchmarks.runs import machine

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LARGE = machine.SMALL


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is set, in turn, on a machine where PyTorch takes four."""
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr(machine, "THREADS", 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine._tell_of_one_thread.cache_clear()
    return found


def test_small_models_get_one_thread_and_it_is_said_once(threads: list[int], capsys) -> None:
    machine.use_threads(None, parameters=100, device=CPU, told=False)
    assert capsys.readouterr().err == ""
    for parameters in (100, LARGE - 1, LARGE):
        machine.use_threads(None, parameters=parameters, device=CPU)
    assert threads == [1, 1, 1, 4]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("medley: one CPU thread")
    assert "training.threads=4" in line


def test_whoever_says_how_many_gets_them(
    threads: list[int], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    machine.use_threads(3, parameters=100, device=CPU)
    machine.use_threads(None, parameters=100, device=GPU)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    machine.use_threads(None, parameters=100, device=CPU)
    assert threads == [3, 4, 4]
    assert capsys.readouterr().err == ""


def test_all_parameters_count() -> None:
    frozen = torch.nn.Linear(3, 4).requires_grad_(False)
    assert machine.size_of(frozen, torch.nn.Linear(2, 1, bias=False)) == 12 + 4 + 2


def test_waiting_threads_sleep_unless_the_user_says_otherwise(medley, monkeypatch) -> None:
    for name in cli.SLEEP:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert medley("--help").code == 0
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["KMP_BLOCKTIME"] == "0"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert medley("--help").code == 0
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def run(folder: Path, name: str, *more: str) -> subprocess.Popen:
    """``python -m benchmarks.cli bench``, as a user starts it."""
    unset = ("OMP_NUM_THREADS", *cli.SLEEP)
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    words = ["bench", "tiny.yaml", "training.epochs=150", f"output_dir={name}", *more]
    words += ["encoder.width=96", "encoder.depth=3", "encoder.heads=4"]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cli", *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def ended(process: subprocess.Popen, place: Path) -> tuple[float, int]:
    """CPU seconds and threads of the run in an output folder."""
    assert process.wait(timeout=900) == 0
    (file,) = place.glob("*/*/result.json")
    result = json.loads(file.read_text())
    return result["cpu_seconds"], result["hardware"]["threads"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("training.threads=2",)], ids=["by the rule", "two"])
def test_two_runs_at_once_take_no_more_work_than_one(tiny: Path, more: tuple[str, ...]) -> None:
    """In CPU seconds, which other programs hardly change: a busy wait takes many times more."""
    alone, count = ended(run(tiny, "alone", *more), tiny / "alone")
    assert count == (2 if more else 1)
    beside = {name: run(tiny, name, *more) for name in ("first", "second")}
    for name, process in beside.items():
        assert ended(process, tiny / name)[0] < 2 * alone
