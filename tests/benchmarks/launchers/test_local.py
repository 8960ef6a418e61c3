"""Worker processes: each task to its end, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.launchers import LAUNCHERS, Event, Task, local
from benchmarks.launchers import resources as resources_module
from benchmarks.launchers.local import LocalLauncher
from benchmarks.launchers.resources import available_memory, cores, fitting
from tests.benchmarks.launchers import works

ROOT = Path(__file__).parents[3]
SCRIPT = """
from benchmarks.launchers import Task
from benchmarks.launchers.local import LocalLauncher
from tests.benchmarks.launchers import works
if __name__ == "__main__":
    tasks = [Task(m, {{"mark": m, "stubborn": {stubborn}}}) for m in {marks}]
    try:
        LocalLauncher(workers=2).run(works.stubborn, tasks, lambda event: None)
    except KeyboardInterrupt:
        raise SystemExit(130)
"""


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch) -> None:
    """What other tests have registered, with all that it imports, is nothing to these tasks."""
    monkeypatch.setattr(local, "plugged_modules", tuple)


def run(work: Any, arguments: list[dict[str, Any]], workers: int = 2) -> list[Event]:
    events: list[Event] = []
    tasks = [Task(str(i), argument) for i, argument in enumerate(arguments)]
    LocalLauncher(workers=workers).run(work, tasks, lambda e: events.append(e) if e else None)
    return events


def done(events: list[Event]) -> dict[str, Any]:
    return {e.key: e.data for e in events if e.kind == "done"}


def of(events: list[Event], key: str) -> list[str]:
    return [e.kind for e in events if e.key == key]


def test_two_processes_share_the_tasks_and_have_a_thread_each(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    mark = tmp_path / "all have begun"
    events: list[Event] = []

    def hear(event: Event | None) -> None:
        if event is not None:
            events.append(event)
            if sum(e.kind == "begun" for e in events) == 2:
                mark.touch()  # neither ends before both have begun

    tasks = [Task(str(n), {"n": n, "until": str(mark)}) for n in range(6)]
    LocalLauncher(workers=2).run(works.square, tasks, hear)
    found = done(events)
    assert {key: data["square"] for key, data in found.items()} == {str(n): n * n for n in range(6)}
    pids = {data["pid"] for data in found.values()}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert pids == {e.data["pid"] for e in events if e.kind == "begun"}
    assert {data["threads"] for data in found.values()} == {"1"}
    assert of(events, "3") == ["begun", "told", "done"]
    assert [e.data for e in events if e.kind == "told" and e.key == "3"] == [{"half": 1.5}]
    assert "OMP_NUM_THREADS" not in os.environ  # of this process


def test_a_killed_process_costs_its_task_one_try_and_no_other_task(tmp_path) -> None:
    once, again = str(tmp_path / "once"), str(tmp_path / "again")
    events = run(works.die, [{"marks": [once]}, {"marks": []}, {"marks": [again, once + "2"]}])
    assert of(events, "0") == ["begun", "died", "begun", "done"]
    assert of(events, "1") == ["begun", "done"]
    assert of(events, "2") == ["begun", "died", "begun", "died"]
    deaths = [e.data for e in events if e.kind == "died"]
    assert all(d["reason"].startswith("killed by signal 9") for d in deaths)
    assert sorted(d["tried_again"] for d in deaths) == [False, True, True]


@pytest.mark.slow
def test_a_task_that_asks_to_wait_lets_others_go_first(tmp_path) -> None:
    mark = str(tmp_path / "mark")
    events = run(works.wait, [{"first": True, "mark": mark}, {"first": False, "mark": mark}], 1)
    assert of(events, "1") == ["begun", "done"]
    kinds = of(events, "0")
    assert kinds[:2] == ["begun", "waits"]
    assert kinds[-1] == "done"


@pytest.mark.slow
def test_a_spent_process_is_replaced() -> None:
    events = run(works.spend, [{}, {}, {}], 1)
    assert len({data["pid"] for data in done(events).values()}) == 3


@pytest.mark.slow
def test_what_the_work_itself_raises_is_told_and_costs_no_process() -> None:
    events = run(works.broken, [{"n": 1}, {"n": 2}], 1)
    (died,) = [e for e in events if e.kind == "died"]
    assert died.data["reason"] == "RuntimeError: planted"
    assert "works.py" in died.data["traceback"]
    assert died.data["tried_again"] is False
    assert len({e.worker for e in events}) == 1
    assert [e.data["line"] for e in events if e.kind == "said"] == ["a line for people"]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def started(tmp_path: Path, *, stubborn: bool) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A process with two workers that are at their tasks."""
    marks = [tmp_path / "a", tmp_path / "b"]
    script = tmp_path / "grid.py"
    script.write_text(SCRIPT.format(marks=[str(m) for m in marks], stubborn=stubborn))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=ROOT)
    until(lambda: all(m.exists() and m.read_text() for m in marks))
    return process, [int(m.read_text()) for m in marks]


def until(true: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_the_tasks_where_they_can_go_on(tmp_path, number) -> None:
    process, pids = started(tmp_path, stubborn=False)
    process.send_signal(number)
    assert process.wait(60) == 130
    until(lambda: not any(map(lives, pids)))


def test_a_second_signal_ends_them_at_once(tmp_path) -> None:
    process, pids = started(tmp_path, stubborn=True)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    assert all(map(lives, pids))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    until(lambda: not any(map(lives, pids)))


def test_workers_end_when_their_parent_is_killed(tmp_path) -> None:
    process, pids = started(tmp_path, stubborn=True)
    process.kill()
    process.wait(60)
    until(lambda: not any(map(lives, pids)), 20.0)


@pytest.mark.slow
def test_it_runs_outside_the_main_thread_too() -> None:
    found: list[Event] = []
    thread = threading.Thread(target=lambda: found.extend(run(works.square, [{"n": 3}], 1)))
    thread.start()
    thread.join(60)
    assert done(found)["0"]["square"] == 9


def test_each_worker_gets_a_gpu_of_those_that_are_visible(monkeypatch) -> None:
    launcher = LocalLauncher(workers=3, gpus=2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [launcher.environment(i)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [launcher.environment(i)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["4", "7", "4"]
    assert LocalLauncher(workers=1).environment(0) == {}


def test_resources_know_a_containers_limits(tmp_path, monkeypatch) -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
    proc, group = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    group.mkdir()
    monkeypatch.setattr(resources_module, "PROC", proc)
    monkeypatch.setattr(resources_module, "CGROUP", group)
    assert available_memory() is None
    assert fitting(7, 2**40) == 7
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:   8000 kB\n")
    assert available_memory() == 8000 * 1024
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("3000\n")
    assert available_memory() == 8000 * 1024
    (group / "memory.max").write_text("5000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    assert available_memory() == 2500
    assert fitting(7, 750) == 3
    assert fitting(2, 750) == 2
    assert fitting(7, 10_000) == 1
    assert fitting(7, None) == 7
    (group / "cpu.max").write_text("100000 100000\n")
    assert cores() == 1


def test_launchers_are_named() -> None:
    assert "local" in LAUNCHERS.names()
