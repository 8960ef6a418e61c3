"""Ray and Slurm: what they are asked for, and what becomes of tasks whose processes they lose.

Where the libraries are installed the same tasks run on them, with the results of local processes.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from benchmarks.launchers import LAUNCHERS, Event, Task
from benchmarks.launchers import ray as ray_module
from benchmarks.launchers import slurm as slurm_module
from benchmarks.launchers.ray import RayConfig, RayLauncher
from benchmarks.launchers.slurm import SlurmConfig, SlurmLauncher
from multimodal.errors import UserError
from tests.benchmarks.launchers import works
from tests.benchmarks.launchers.fakes import FakeSubmitit, Queue, TaskCancelledError, fake_ray
from tests.benchmarks.launchers.fakes import RayError as Gone


def events_of(launcher: Any, work: Any, arguments: list[dict[str, Any]]) -> list[Event]:
    events: list[Event] = []
    tasks = [Task(str(i), argument) for i, argument in enumerate(arguments)]
    launcher.run(work, tasks, lambda e: events.append(e) if e else None)
    return events


def of(events: list[Event], key: str) -> list[str]:
    return [e.kind for e in events if e.key == key]


def squares(events: list[Event]) -> dict[str, int]:
    return {e.key: e.data["square"] for e in events if e.kind == "done"}


@pytest.fixture
def queue(monkeypatch) -> None:
    module = types.ModuleType("ray.util.queue")
    module.Queue = Queue  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.util", types.ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.queue", module)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_rays_own_cluster_is_of_this_machine_alone(queue) -> None:
    ray = fake_ray()
    config = RayConfig(gpus_per_cell=0.25)
    events = events_of(
        RayLauncher(ray, config, workers=2), works.square, [{"n": n} for n in (2, 3)]
    )
    assert squares(events) == {"0": 4, "1": 9}
    assert [e.data for e in events if e.kind == "told"] == [{"half": 1.0}, {"half": 1.5}]
    asked = ray.calls["init"]
    assert asked["_node_ip_address"] == "127.0.0.1"
    assert asked["include_dashboard"] is False
    assert asked["num_cpus"] == 2
    assert ray.calls["options"] == {"num_cpus": 1.0, "num_gpus": 0.25, "max_retries": 1}
    assert ray.calls["shutdown"]


def test_a_cluster_that_runs_already_is_joined_as_it_is(queue) -> None:
    ray = fake_ray()
    events_of(RayLauncher(ray, RayConfig(address="auto"), workers=None), works.square, [{"n": 1}])
    assert ray.calls["init"]["address"] == "auto"
    assert not {"num_cpus", "_node_ip_address", "include_dashboard"} & ray.calls["init"].keys()


def test_what_ray_gives_up_has_failed_and_the_others_go_on(queue) -> None:
    fates = {0: Gone("the worker died"), 1: TaskCancelledError()}
    ray = fake_ray(fates.get)
    arguments = [{"n": n} for n in range(3)]
    events = events_of(RayLauncher(ray, RayConfig(), workers=2), works.square, arguments)
    assert of(events, "0") == ["begun", "died"]
    (died,) = [e for e in events if e.kind == "died"]
    assert died.data == {"reason": "RayError: the worker died", "tried_again": False}
    assert of(events, "1") == ["begun", "stopped"]
    assert squares(events) == {"2": 4}


def test_tasks_that_wait_are_asked_again(queue, tmp_path) -> None:
    mark = str(tmp_path / "mark")
    arguments = [{"first": True, "mark": mark}, {"first": False, "mark": mark}]
    events = events_of(RayLauncher(fake_ray(), RayConfig(), workers=1), works.wait, arguments)
    assert of(events, "1") == ["begun", "done"]
    assert of(events, "0")[:2] == ["begun", "waits"]
    assert of(events, "0")[-1] == "done"


def test_jobs_of_slurm_are_submitted_once_more_when_they_are_lost(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fates = {0: RuntimeError("node failure"), 1: RuntimeError("time"), 3: RuntimeError("time")}
    submitit = FakeSubmitit(fates.get)
    config = SlurmConfig(folder=str(tmp_path), partition="gpu", minutes=5, gpus=1)
    arguments = [{"n": n} for n in range(3)]
    events = events_of(SlurmLauncher(submitit, config, workers=2), works.square, arguments)
    # Jobs 0 and 1 are lost; 2 is the third task, 3 and 4 try the first two again.
    assert of(events, "0") == ["begun", "died", "begun", "died"]
    assert of(events, "1") == ["begun", "died", "begun", "done"]
    assert of(events, "2") == ["begun", "done"]
    assert "job 0 of Slurm: node failure" in str([e.data for e in events if e.kind == "died"])
    assert submitit.cluster == "slurm"
    assert submitit.parameters["slurm_partition"] == "gpu"
    assert submitit.parameters["timeout_min"] == 5
    assert "slurm_account" not in submitit.parameters


@pytest.mark.parametrize(("name", "module"), [("ray", ray_module), ("slurm", slurm_module)])
def test_what_is_not_installed_is_told_in_one_line(name, module, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, {"ray": "ray", "slurm": "submitit"}[name], None)
    with pytest.raises(UserError, match=rf"--on {name}: .* is not installed; install the extra"):
        module.imported()
    with pytest.raises(UserError, match="is not installed"):
        LAUNCHERS.parse({"name": name}).build(workers=1)  # pyright: ignore


def test_ray_itself_gives_the_results_of_local_processes() -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    launcher = RayConfig().build(workers=2)
    events = events_of(launcher, works.square, [{"n": n} for n in range(4)])
    assert squares(events) == {str(n): n * n for n in range(4)}
    assert {e.key for e in events if e.kind == "told"} == set("0123")


def test_submitit_itself_runs_jobs_of_this_machine(tmp_path) -> None:
    pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")
    launcher = SlurmConfig(cluster="local", folder=str(tmp_path / "jobs")).build(workers=2)
    events = events_of(launcher, works.die, [{"marks": []}, {"marks": [str(tmp_path / "once")]}])
    assert of(events, "0") == ["begun", "done"]
    assert of(events, "1") == ["begun", "died", "begun", "done"]
