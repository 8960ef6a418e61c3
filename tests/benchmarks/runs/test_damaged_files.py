"""Every file that a run writes and reads back, damaged in every way.

The same command then comes to the same end, or says in one line what is wrong and what helps; it
never trains on with other numbers and never shows a traceback.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks.runs.damage import DAMAGES, copy, flip, folder, replace

BENCH = ["bench", "tiny.yaml", "cache=disk", "training={checkpoint_every: 1, log_every: 1}"]
BENCH += ["training.device=cpu", "training.batch_size=2"]
TRACKED = [*BENCH, "tracking={store: mlflow}"]
# File -> what may follow: the same end, or a refusal with a remedy that names the file.
GOES_ON = {
    "runs/tiny/*/checkpoint/checkpoint.pt": "going on from the one before it",
    "runs/cache/*/shard-*.safetensors": "",
}
REFUSED = {
    "runs/tiny/*/metrics.jsonl": "",
    "runs/tiny/*/config.yaml": "restore its config.yaml, or start anew with --fresh",
    "runs/tiny/*/result.json": "repeat the run",
    "runs/tiny/*/report.html": "move away what stands there",
}
pytestmark = pytest.mark.filterwarnings("ignore:.*damaged; deleted, will be remade")


def metrics_of(place: Path) -> dict[str, object]:
    (file,) = place.glob("runs/tiny/*/result.json")
    return json.loads(file.read_text())["metrics"]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("template")


@pytest.fixture
def begun(medley, tiny, template) -> dict[str, object]:
    """A run whose process was killed before its result was written; what the result would be.

    The first test makes it; the others copy it.
    """
    if (template / "runs").exists():
        copy(template / "runs", tiny / "runs")
    else:
        assert medley(*BENCH).code == 0
        copy(tiny / "runs", template / "runs")
    return set_aside(tiny)


def set_aside(place: Path) -> dict[str, object]:
    expected = metrics_of(place)
    (file,) = place.glob("runs/tiny/*/result.json")
    file.rename(place / "result.json")
    return expected


def found(pattern: str) -> Path:
    """The file; the result is put back if it is the one that is wanted."""
    if pattern.endswith("result.json"):
        (config,) = Path().glob("runs/tiny/*/config.yaml")
        Path("result.json").rename(config.with_name("result.json"))
    return sorted(Path().glob(pattern))[0]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("pattern", [*GOES_ON, *REFUSED])
def test_the_end_is_the_same_or_a_line_says_what_helps(
    medley, tiny, begun, pattern: str, damage: Callable[..., None]
) -> None:
    path = found(pattern)
    damage(path, np.random.default_rng(7))
    outcome = medley(*BENCH)
    assert "Traceback" not in outcome.err
    if outcome.code == 0:
        assert metrics_of(tiny) == begun
        # What stands behind the end of a zip file changes nothing in it.
        words = "" if damage.__name__ == "longer" else GOES_ON.get(pattern, "")
        assert words in outcome.err
    else:
        assert pattern in REFUSED
        assert outcome.code == 2
        assert len([x for x in outcome.err.splitlines() if x.startswith("error: ")]) == 1
        assert REFUSED[pattern] in outcome.err
        assert str(path) in outcome.err or str(path.parent) in outcome.err


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_a_run_whose_tracking_file_is_damaged_is_tracked_anew(
    medley, tiny, empty_store, damage: Callable[..., None]
) -> None:
    (tiny / "runs").mkdir()
    (tiny / "runs/mlflow.db").write_bytes(empty_store.read_bytes())
    assert medley(*TRACKED).code == 0
    expected = set_aside(tiny)
    path = found("runs/tiny/*/tracking.json")
    damage(path, np.random.default_rng(7))
    outcome = medley(*TRACKED)
    assert "Traceback" not in outcome.err
    if damage.__name__ == "folder":  # nothing can be kept there: the run is, and says so
        assert f"{path}" in outcome.err, outcome.err
        assert "Is a directory" in outcome.err
        return
    assert outcome.code == 0, outcome.err
    assert f"{path} is damaged" in outcome.err
    assert "tracked anew, as another MLflow run" in outcome.err
    assert metrics_of(tiny) == expected


def test_a_folder_in_the_place_of_the_lock_is_one(medley, tiny, begun) -> None:
    folder(found("runs/tiny/*/.lock"), np.random.default_rng(7))
    outcome = medley(*BENCH)
    assert outcome.code == 0
    assert "Traceback" not in outcome.err


class Bomb:
    """What must never be unpickled."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def another(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def bomb(path: Path) -> None:
    torch.save({"random": Bomb()}, path)


def bare_bomb(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize("foreign", [another, bomb, bare_bomb], ids=lambda f: f.__name__)
def test_a_foreign_checkpoint_is_not_taken_up(
    medley, tiny, begun, foreign: Callable[[Path], None]
) -> None:
    foreign(found("runs/tiny/*/checkpoint/checkpoint.pt"))
    outcome = medley(*BENCH)
    assert outcome.code == 0, outcome.err
    assert "going on from the one before it" in outcome.err
    assert not Path("exploded").exists()
    assert metrics_of(tiny) == begun


def test_without_a_checkpoint_that_is_whole_nothing_starts_anew_unsaid(medley, tiny, begun) -> None:
    for name in ("checkpoint.pt", "previous.pt"):
        flip(found(f"runs/tiny/*/checkpoint/{name}"), np.random.default_rng(1))
    outcome = medley(*BENCH)
    assert outcome.code == 2
    assert "checkpoint.pt: the checkpoint cannot be read" in outcome.err
    assert "and the one before it likewise" in outcome.err
    assert "--fresh" in outcome.err
    assert medley(*BENCH, "--fresh").code == 0
    assert metrics_of(tiny) == begun


def test_a_checkpoint_of_another_version_is_refused_in_one_line(medley, tiny, begun) -> None:
    path = found("runs/tiny/*/checkpoint/checkpoint.pt")
    state = torch.load(path, weights_only=True)
    state["learner"] = {"other": torch.zeros(3)}
    torch.save(state, path)
    outcome = medley(*BENCH)
    assert outcome.code == 2
    assert f"{path}: does not fit this version of Medley" in outcome.err
    assert "--fresh" in outcome.err


def test_a_line_of_the_journal_that_only_the_last_checkpoint_needs(medley, tiny, begun) -> None:
    path = found("runs/tiny/*/metrics.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    replace(path, b"".join([*lines[:-1], lines[-1].replace(b'"step":', b'"step":1', 1)]))
    outcome = medley(*BENCH)
    assert outcome.code == 0, outcome.err
    assert "going on from the one before it" in outcome.err
    assert metrics_of(tiny) == begun
    assert len(path.read_bytes().splitlines()) == len(lines)


def test_damaged_warm_up_weights_are_made_again(medley, tiny) -> None:
    warm = "warm_up={dataset: {name: folder, root: clips, modality: speech}, epochs: 1}"
    words = ["bench", "tiny.yaml", "learners=[linear_probe]", warm]
    assert medley(*words).code == 0
    expected = metrics_of(tiny)
    for name in ("models/*.safetensors", "result.json", "checkpoint/checkpoint.pt"):
        (file,) = tiny.glob("runs/tiny/*/result.json")
        file.unlink()
        for path in tiny.glob(f"runs/warm_up/*/{name}"):
            if name.startswith("checkpoint"):
                path.with_name("previous.pt").unlink(missing_ok=True)
                (path.parents[1] / "result.json").unlink()
            flip(path, np.random.default_rng(3))
        outcome = medley(*words, "--fresh")
        assert outcome.code == 0, (name, outcome.err)
        assert "is made again" in outcome.err
        assert metrics_of(tiny) == expected
