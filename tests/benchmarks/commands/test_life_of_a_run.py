"""What every command owes a run, whatever happens to it: one test for all of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.results.result import Result
from benchmarks.runs import finished, machine
from benchmarks.runs import session as session_module
from benchmarks.runs.workspace import run_lock
from benchmarks.tracking.run import MLflowRun
from benchmarks.tracking.state import State
from benchmarks.tracking.store import connect
from benchmarks.tracking.tracker import MLflowTracker
from multimodal.errors import UserError

ZERO = """\
experiment: zero
dataset: {name: folder, root: clips, modality: speech}
model: {name: aligned, experiment: tones}
"""


class Command(NamedTuple):
    """``run(*overrides)`` in a working folder; its result, and the run in the store."""

    name: str
    run: Callable[..., Any]
    experiment: str
    place: Path

    @property
    def folder(self) -> Path:
        (file,) = self.place.glob(f"runs/{self.experiment}/*/config.yaml")
        return file.parent

    def tracked(self) -> Any:
        client = connect(f"sqlite:///{self.place}/runs/mlflow.db")
        (run,) = client.search_runs([client.get_experiment_by_name(self.experiment).experiment_id])
        return run, {a.path for a in client.list_artifacts(run.info.run_id)}


@pytest.fixture(params=["bench", "align", "finetune", "zeroshot"])
def command(request, medley, tuned, empty_store) -> Command:
    """One run of each command, tracked in a store of its own."""
    (tuned / "runs").mkdir()
    (tuned / "runs/mlflow.db").write_bytes(empty_store.read_bytes())
    (tuned / "zero.yaml").write_text(ZERO)
    file, experiment = {
        "bench": ("tiny.yaml", "tiny"),
        "align": ("align.yaml", "tones"),
        "finetune": ("tune.yaml", "tuned"),
        "zeroshot": ("zero.yaml", "zero"),
    }[request.param]
    if request.param == "zeroshot":
        assert medley("align", "align.yaml").code == 0

    def run(*overrides: str) -> Any:
        return medley(request.param, file, "tracking={store: mlflow}", *overrides)

    return Command(request.param, run, experiment, tuned)


def killed_thread(tracker: MLflowTracker) -> None:
    """The sending thread is gone, as its process would be; nothing is told to the store."""
    tracker._closing = True
    tracker._wake.set()
    if tracker._worker is not None:
        tracker._worker.join()


def test_a_run_is_described_whole(command: Command) -> None:
    assert command.run().code == 0
    result, (run, files) = Result.load(command.folder), command.tracked()
    assert result.command == command.name
    tags = run.data.tags
    assert tags["medley.config_hash"] == result.config_hash
    assert tags["medley.dataset_content_hash"] == result.dataset["content_hash"]
    assert tags["medley.learner"] == result.learner
    assert tags["medley.scenario"] == result.scenario
    assert (tags["medley.modality"], tags["medley.quick"]) == ("speech", "false")
    assert tags["medley.seed"] == str(result.seed)
    if result.git_commit is not None:
        assert tags["medley.git_commit"] == result.git_commit
    assert run.info.status == "FINISHED"
    assert {"result.json", "report.html", "config.yaml"} <= files
    again = command.run()
    assert again.code == 0
    assert Result.load(command.folder) == result


def test_a_store_lost_since_it_was_checked_loses_no_result(command: Command, monkeypatch) -> None:
    class Lost:
        def start(self, *facts: object) -> None:
            raise UserError("MLflow store x failed (gone); fix it.")

        def fail(self) -> None:
            raise AssertionError("a lost tracker is not used again")

    monkeypatch.setattr(session_module, "make_tracker", lambda *a, **k: Lost())
    outcome = command.run()
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("goes on untracked") == 1
    assert (command.folder / "report.html").is_file()
    assert Result.load(command.folder).metrics


@pytest.mark.parametrize(
    "place", [pytest.param("draw_pictures", marks=pytest.mark.slow), "write_html"]
)
@pytest.mark.parametrize(
    "killed",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["killed", "stopped"],
)
def test_a_run_that_ends_after_its_result_is_completed_next_time(
    command: Command, killed: bool, place: str, monkeypatch
) -> None:
    """killed: nothing runs any more; else the store hears that the run failed."""

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(session_module, place, stop)
        if killed:
            context.setattr(MLflowTracker, "fail", killed_thread)
        assert command.run().code == 130
    result, state = Result.load(command.folder), State.load(command.folder)
    assert state is not None
    assert state.status == ("RUNNING" if killed else "FAILED")
    assert not (command.folder / "report.html").exists()
    assert command.run().code == 0
    assert Result.load(command.folder) == result
    run, files = command.tracked()
    assert run.info.status == "FINISHED"
    assert {"result.json", "report.html"} <= files
    if command.name in ("align", "zeroshot"):
        assert {"map.png", "similarity.png"} <= files
    state = State.load(command.folder)
    assert state is not None
    assert (state.done, state.status) == (True, "FINISHED")


def test_a_finished_run_whose_validation_was_held_out_is_reused(medley, tones) -> None:
    words = ["align", "align.yaml", "validation_fraction=0.25"]
    assert medley(*words).code == 0
    again = medley(*words)
    assert again.code == 0, again.err
    assert "done before" in again.err
    assert "made by version" not in again.err


def test_a_result_of_another_version_is_reused_and_called_so(medley, tones, monkeypatch) -> None:
    words = ["bench", "tiny.yaml"]
    assert medley(*words).code == 0
    now = {**machine.packages(), "medley-continual": "99.0"}
    monkeypatch.setattr(finished, "packages", lambda: now)
    again = medley(*words)
    assert again.code == 0, again.err
    assert "this is 99.0: --fresh runs it anew)" in again.err


def test_a_damaged_result_is_told_before_anything_trains(medley, tones) -> None:
    words = ["align", "align.yaml", "objectives=[clip,cwcl]"]
    assert medley(*words).code == 0
    damaged, other = sorted(tones.glob("runs/tones/*/result.json"))
    damaged.write_text("{")
    other.unlink()
    outcome = medley(*words)
    assert outcome.code == 2
    assert f"{damaged.relative_to(tones)} is damaged" in outcome.err
    assert not other.exists()


def test_what_a_lost_store_was_to_be_told_is_sent_next_time(command: Command, monkeypatch) -> None:
    def lost(*args: object, **options: object) -> None:
        raise UserError("MLflow store x failed (gone); fix it.")

    with monkeypatch.context() as context:
        context.setattr(MLflowRun, "open", lost)
        assert "goes on untracked" in command.run().err
    assert command.run().code == 0
    result, (run, files) = Result.load(command.folder), command.tracked()
    assert run.info.status == "FINISHED"
    assert run.data.tags["medley.dataset_content_hash"] == result.dataset["content_hash"]
    assert run.data.tags["medley.quick"] == "false"
    assert "result.json" in files


def test_a_run_is_left_to_the_process_that_is_at_it(command: Command) -> None:
    assert command.run().code == 0
    page = command.folder / "report.html"
    page.unlink()
    with run_lock(command.folder):
        outcome = command.run()
        assert outcome.code == 0
        assert "another process is at this run" in outcome.err
        assert not page.exists()
    assert command.run().code == 0
    assert page.exists()


def test_a_command_that_trains_no_stream_starts_without_avalanche() -> None:
    program = (
        "import sys, benchmarks.commands.align.command, benchmarks.commands.zeroshot.command\n"
        "sys.exit(int('avalanche' in sys.modules))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", program], cwd=root).returncode == 0


def test_a_marker_may_come_from_an_override(medley, tiny) -> None:
    bare = (tiny / "tiny.yaml").read_text().replace("learners: [finetune]\n", "")
    (tiny / "bare.yaml").write_text(bare)
    assert "learners (medley bench)" in medley("config", "show", "bare.yaml").err
    outcome = medley("config", "show", "bare.yaml", "learners=[finetune]")
    assert outcome.code == 0
    assert "name: finetune" in outcome.out


def test_a_result_without_the_hash_of_its_data_is_damaged(command: Command) -> None:
    assert command.run().code == 0
    result = Result.load(command.folder)
    del result.dataset["content_hash"]
    result.save(command.folder)
    outcome = command.run()
    assert outcome.code == 2
    assert "is damaged (dataset.content_hash is gone)" in outcome.err
