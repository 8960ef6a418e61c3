"""Run folders, stores and learning that go wrong: one clear line, nothing lost."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.runs import checkpoint
from benchmarks.runs.workspace import check_writable, clear
from multimodal.errors import UserError


@pytest.fixture
def begun(medley, tiny) -> Path:
    """The folder of a run that stopped after its last checkpoint."""
    assert medley("bench", "tiny.yaml").code == 0
    (result,) = Path("runs/tiny").glob("*/result.json")
    result.unlink()
    return result.parent


# ---- the output folder and what is in it ----------------------------------------------------


def test_an_output_folder_that_cannot_be_written(refuse) -> None:
    refuse("bench tiny.yaml output_dir=tiny.yaml/runs", "tiny.yaml/runs/tiny: cannot write there")
    refuse("bench tiny.yaml output_dir=tiny.yaml", "tiny.yaml/tiny: cannot write there")


def test_an_experiment_folder_that_cannot_be_written(refuse) -> None:
    Path("runs").mkdir()
    Path("runs/tiny").touch()
    refuse("bench tiny.yaml", "runs/tiny")


def test_an_unreachable_store_is_named_before_training(refuse) -> None:
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        import mlflow  # noqa: F401  (its import takes seconds of its own)

        began = time.monotonic()
        refuse(
            f"bench tiny.yaml tracking.store=mlflow tracking.uri={uri}",
            f"MLflow store {uri} failed",
            "fix tracking.uri",
            "tracking.store=none",
            made="config.yaml",
        )
        assert time.monotonic() - began < 10


def test_a_begun_run_whose_config_was_edited(refuse, begun) -> None:
    config = begun / "config.yaml"
    config.write_text(config.read_text().replace("learning_rate: 0.001", "learning_rate: 0.5"))
    words = [str(begun), "begun with another config", "restore its config.yaml", "--fresh"]
    refuse("bench tiny.yaml", *words)


@pytest.mark.parametrize("text", ["experiment: [", "experiment: 3\n", "- 1\n", "seeds: 2020-01-01"])
def test_a_begun_run_whose_config_was_spoilt(refuse, begun, text: str) -> None:
    (begun / "config.yaml").write_text(text)
    refuse("bench tiny.yaml", f"{begun}", "config.yaml", "--fresh")


def test_a_checkpoint_of_another_config(refuse, begun) -> None:
    state = checkpoint.load(begun / "checkpoint")
    assert state is not None
    checkpoint.save(begun / "checkpoint", {**state, "config_hash": "0" * 12})
    refuse("bench tiny.yaml", str(begun), "begun with another config", "--fresh")


def test_damaged_checkpoints(refuse, begun) -> None:
    path = begun / "checkpoint" / checkpoint.FILE
    for name in (checkpoint.FILE, checkpoint.PREVIOUS):
        path.with_name(name).write_bytes(path.read_bytes()[:1000])
    refuse("bench tiny.yaml", str(path), "cannot be read", "start this run anew with --fresh")


@pytest.mark.parametrize("done", [True, False])
def test_data_that_changed_since_the_run_began(refuse, medley, begun, done: bool) -> None:
    if done:
        assert medley("bench", "tiny.yaml").code == 0
    with soundfile.SoundFile("clips/low/0.wav", "r+") as file:
        file.seek(0, soundfile.SEEK_END)
        file.write(np.zeros(10))
    refuse("bench tiny.yaml", str(begun), "dataset has changed", "content hash", "--fresh")
    assert medley("bench", "tiny.yaml", "--fresh").code == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_result(refuse, begun, text: str) -> None:
    (begun / "result.json").write_text(text)
    refuse("bench tiny.yaml", f"{begun / 'result.json'}")
    refuse("report", f"{begun / 'result.json'} is damaged", "repeat the run")


def test_fresh_keeps_earlier_runs_if_the_new_one_cannot_begin(refuse, medley, tiny) -> None:
    assert medley("bench", "tiny.yaml").code == 0
    Path("clips/low/empty.wav").touch()
    refuse("bench tiny.yaml --fresh", "clips/low/empty.wav: empty file")


def test_a_report_of_nothing(refuse) -> None:
    refuse("report", "runs is not a folder")
    refuse("report clips", "clips holds no finished run")


# ---- learning -------------------------------------------------------------------------------

RATE_TOO_HIGH = "training.learning_rate=1e30"


@pytest.mark.parametrize("often", ["training.log_every=1 training.epochs=5", ""])
def test_learning_that_diverges(medley, tiny, often: str) -> None:
    """However few steps there are."""
    outcome = medley("bench", "tiny.yaml", RATE_TOO_HIGH, *often.split())
    assert outcome.code == 2
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "the loss became " in errors[0]
    assert "lower training.learning_rate (1e+30)" in errors[0]
    assert "Traceback" not in outcome.err
    assert not list(Path("runs").rglob("result.json"))


def test_a_herding_memory_smaller_than_the_number_of_classes(refuse) -> None:
    """Before training, not hours later at the end of the experience that overflows it."""
    learner = "{name: replay, policy: herding, memory_size: 1}"
    refuse(f"bench tiny.yaml 'learners=[{learner}]'", "memory_size", "1", "2 classes")


def test_fresh_takes_a_link_to_a_folder_away_and_leaves_the_folder(tmp_path) -> None:
    """Checkpoints that were moved to another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "checkpoint.pt").write_text("x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint").symlink_to(tmp_path / "disk")
    clear(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert (tmp_path / "disk" / "checkpoint.pt").exists()


def test_many_runs_may_ask_at_once_whether_a_folder_can_be_written(tmp_path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_writable(tmp_path / "new"), range(400)))
    assert not list((tmp_path / "new").iterdir())


def _probe(folder: Path) -> int:
    """How often the folder is said to be unwritable, while others take it away again and again."""
    refused = 0
    for _ in range(500):
        try:
            check_writable(folder)
        except UserError:
            refused += 1
        with contextlib.suppress(OSError):
            folder.rmdir()
    return refused


def test_so_may_processes_of_which_some_take_it_away_again(tmp_path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
        assert sum(pool.map(_probe, [tmp_path / "a" / "b"] * 4)) == 0
