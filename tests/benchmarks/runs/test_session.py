"""The life of a run, without any command around it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from benchmarks.commands.bench.config import RunConfig
from benchmarks.runs.session import Session
from tests.toy import toy_data, toy_manifest


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
