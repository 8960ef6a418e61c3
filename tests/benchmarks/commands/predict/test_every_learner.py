"""What a run left is all that its model needs: every learner says of the test recordings, read from
files, what it said of them at the end of its run.

Learners are those of the registry, so a new one is tried without being named here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.utils.rnn import pad_sequence

from benchmarks import load_model
from benchmarks.commands.bench import stream_run
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import build_learner
from benchmarks.config.loading import validate
from benchmarks.runs import machine, session
from continual.learner import LEARNERS, Learner, Prediction
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.modalities.log_mel import Finishing
from multimodal.modalities.speech import SpeechAdapter, SpeechConfig
from multimodal.recordings import Manifest, Recording
from tests.toy import RATE, toy_chords, toy_data, toy_manifest

SINGLE, SEVERAL = "toy", "toy_chords"
MANIFESTS = {SINGLE: toy_manifest(train=4), SEVERAL: toy_chords()}
DATA: dict[str, Any] = {SINGLE: {"name": SINGLE, "train": 4}, SEVERAL: SEVERAL}
STREAMS = {
    "class_incremental": {"name": "class_incremental", "num_experiences": 2},
    "si_blurry": {
        **{"name": "si_blurry", "num_tasks": 2, "min_task_samples": 1, "eval_period": 10},
        "online_iter": 2,
    },
}
PAIRS = ((SINGLE, "class_incremental"), (SINGLE, "si_blurry"), (SEVERAL, "class_incremental"))
DECODER = {
    **{"layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "merges": 8, "longest": 24},
    **{"beam": 2, "projection": 8},
}
SMALL: dict[str, dict[str, Any]] = {
    "rm": {"memory_epochs": 1},
    "rls": {"hidden": 20},
    **{name: {"decoder": DECODER} for name in ("coconut", "seq2seq", "seq2seq_joint")},
}
VARIANTS: list[dict[str, Any]] = [
    {"name": "er", "head": {"whiten": True}, "encoder": "none"},
    {"name": "cwcl", "head": {"whiten": True}, "encoder": "none"},
    {"name": "linear_probe", "head": {"whiten": True}},
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Path, Recording]]]:
    """The test recordings of each dataset as WAV files."""
    folder = tmp_path_factory.mktemp("files")
    return {name: written(manifest, folder / name) for name, manifest in MANIFESTS.items()}


def written(manifest: Manifest, folder: Path) -> list[tuple[Path, Recording]]:
    folder.mkdir()
    found = []
    for row in manifest.indices("test"):
        recording = manifest.recordings[row]
        assert recording.make is not None
        path = folder / f"{row:04d}.wav"
        soundfile.write(path, recording.make()[0], RATE, subtype="FLOAT")
        found.append((path, recording))
    return found


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])
    monkeypatch.setattr(session, "write_html", lambda _, path: path)
    monkeypatch.setattr(machine, "git_commit", lambda: None)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Learner]:
    """The learners of the runs of a test, in their order."""
    found: list[Learner] = []

    def build(*parts: Any) -> Learner:
        found.append(build_learner(*parts))
        return found[-1]

    monkeypatch.setattr(stream_run, "build_learner", build)
    return found


def trained(
    learner: dict[str, Any], data: str, scenario: str, text: dict[str, Any], place: Path
) -> Path | None:
    """The folder of a finished run, or None where the learner refuses such data."""
    learner = {**SMALL.get(learner["name"], {}), **learner}
    if "text" in LEARNERS.config(learner["name"]).model_fields:
        learner["text"] = text
    encoder = {"name": "compact", "width": 16, "depth": 1, "heads": 2}
    config = validate(
        RunConfig,
        toy_data(
            dataset=DATA[data],
            scenario=STREAMS[scenario],
            encoder={**encoder, "train": learner.pop("encoder", "all")},
            learners=[learner],
            training={"epochs": 2, "batch_size": 8, "device": "cpu"},
            output_dir=str(place),
        ),
        source="toy",
    )
    try:
        cells = Cells(config)
    except UserError:
        return None
    cells.run_cell(0)
    return cells.cells[0].folder


def check(folder: Path, learner: Learner, files: list[tuple[Path, Recording]]) -> None:
    """learner: as its run left it in memory."""
    model = load_model(folder)
    found = model.predict([path for path, _ in files], batch_size=7)
    assert [row.file for row in found] == [str(path) for path, _ in files]
    assert not any(row.error for row in found)
    prediction, shares = asked(learner, files)
    own = np.array([[row.probabilities[name] for name in model.class_names] for row in found])
    np.testing.assert_allclose(own, shares.numpy(), atol=1e-5)
    assert own.min() >= 0
    if model.multi_label:
        named = [[name in (row.label or ()) for name in model.class_names] for row in found]
        assert named == prediction.labels.tolist()
        assert named == (shares > 0.5).tolist()
        return
    np.testing.assert_allclose(own.sum(1), 1, atol=1e-5)
    names = [*model.class_names, None]  # the last one is of -1: a text that names no class
    assert [row.label for row in found] == [names[c] for c in prediction.labels]
    if prediction.texts is None:
        assert (own.argmax(1) == prediction.labels.numpy()).all()
    assert [row.text for row in found] == list(prediction.texts or [None] * len(files))


@torch.no_grad()
def asked(learner: Learner, files: list[tuple[Path, Recording]]) -> tuple[Prediction, torch.Tensor]:
    adapter = SpeechAdapter(SpeechConfig())
    found = [adapter.load(recording)[0] for _, recording in files]
    if any(isinstance(part, Finishing) for part in learner.model.modules()):  # it reads features
        found = [adapter.with_features().prepare(signal[:, None]) for signal in found]
    inputs = pad_sequence(found, batch_first=True)
    inputs = inputs if inputs.ndim == 3 else inputs[:, None]
    count = torch.zeros(len(files), dtype=torch.int64)
    lengths = torch.tensor([len(values) for values in found])
    batch = Batch(inputs, lengths, count, count)
    learner.model.eval()
    prediction = learner.predict(batch)
    return prediction, learner.probabilities(batch, prediction)


# Of several labels and online at once: by make slow.
EVERY = [
    pytest.param(name, data, scenario, marks=[pytest.mark.slow] * ((data, scenario) not in PAIRS))
    for name in LEARNERS.names()
    for data in (SINGLE, SEVERAL)
    for scenario in STREAMS
]


@pytest.mark.parametrize(("name", "data", "scenario"), EVERY)
def test_a_reopened_learner_says_what_it_said(
    name: str, data: str, scenario: str, text, files, made, tmp_path
) -> None:
    folder = trained({"name": name}, data, scenario, text, tmp_path)
    if folder is not None:
        check(folder, made[-1], files[data])


@pytest.mark.parametrize("learner", VARIANTS, ids=lambda learner: learner["name"])
def test_so_does_one_with_a_whitened_head(
    learner: dict[str, Any], text, files, made, tmp_path
) -> None:
    folder = trained(dict(learner), SINGLE, "class_incremental", text, tmp_path)
    assert folder is not None
    check(folder, made[-1], files[SINGLE])


def test_a_run_with_a_warm_up_finds_it_also_when_the_output_folder_was_moved(
    files, made, tmp_path
) -> None:
    config = toy_data(
        dataset=DATA[SINGLE],
        learners=["slda"],
        encoder={"name": "compact", "width": 16, "depth": 1, "heads": 2, "train": "none"},
        training={"epochs": 1, "batch_size": 8, "device": "cpu"},
        warm_up={"dataset": {"name": "toy", "train": 4}, "epochs": 1},
        output_dir=str(tmp_path / "runs"),
    )
    cells = Cells(validate(RunConfig, config, source="toy"))
    cells.run_cell(0)
    (tmp_path / "runs").rename(tmp_path / "moved")
    folder = cells.cells[0].folder
    check(tmp_path / "moved" / folder.relative_to(tmp_path / "runs"), made[-1], files[SINGLE])
