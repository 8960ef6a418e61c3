"""The life of a run, without any command around it."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from benchmarks.commands.bench.config import RunConfig
from benchmarks.runs.session import Session
from tests.toy import toy_data, toy_manifest

CPU = torch.device("cpu")


def session(tmp_path, **changes: object) -> Session:
    config = RunConfig.parse(toy_data(output_dir=str(tmp_path)))
    return Session(config, toy_manifest(), learner="x", scenario="y", seed=1, **changes)  # type: ignore[arg-type]


def test_other_processes_read_the_checkpoint_and_leave_the_folder_alone(tmp_path) -> None:
    first = session(tmp_path)
    with first.open() as state:
        assert state is None
        first.track({})
        first.log({"loss": 1.0}, 1)
        first.save_checkpoint({"own": 7})
    before = {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    other = session(tmp_path, writes=False)
    with other.open() as state:
        assert state is not None
        assert state["own"] == 7
        other.track({})
        other.log({"loss": 2.0}, 2)
        other.save_checkpoint({"own": 8})
    assert {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_waits_for_the_step_or_stops_at_once(tmp_path, number: int) -> None:
    run = session(tmp_path)
    with run.open():
        os.kill(os.getpid(), number)
        assert run.interrupted
    with pytest.raises(KeyboardInterrupt):
        run.stop_if_interrupted()
    failed: list[bool] = []
    run = session(tmp_path)
    run.tracker.fail = lambda: failed.append(True)  # type: ignore[method-assign]

    def work() -> None:
        with run.open(between_steps=False):
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert failed == [True]


def test_seconds_count_from_when_the_work_began(tmp_path) -> None:
    run = session(tmp_path, since=time.perf_counter() - 100)
    with run.open():
        run.track({})
        assert 100 <= run.seconds < 110
    run = session(tmp_path)
    with run.open():
        assert run.seconds < 10


def test_seconds_on_the_processor_are_those_of_all_resumptions(tmp_path, monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    for total in (3.0, 6.0):
        run = session(tmp_path)
        now[0] += 50  # before it is opened
        with run.open():
            now[0] += 3
            assert run.cpu_seconds == total
            run.save_checkpoint({})
        result = run.result(CPU, dataset={}, metrics={}, experiences=[])
        assert result.cpu_seconds == total
    run = session(tmp_path, cpu_since=now[0] - 7)
    with run.open():
        assert run.cpu_seconds == 13.0
