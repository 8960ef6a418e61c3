"""Tracked models, loaded as anybody loads a model of MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.predict.model import load_model
from benchmarks.config.loading import validate
from benchmarks.tracking.store import connect
from multimodal.errors import UserError
from tests.toy import RATE, tone, toy_data


@pytest.fixture(scope="module")
def run(tmp_path_factory, empty_store) -> Any:
    """(folder of a finished run, its files, MLflow's client)."""
    place = tmp_path_factory.mktemp("served")
    shutil.copy(empty_store, place / "mlflow.db")
    data = toy_data(
        learners=["finetune"],
        training={"epochs": 1, "device": "cpu"},
        tracking={"store": "mlflow", "register_as": "tones"},
        output_dir=str(place),
        quick=True,
    )
    grid = Cells(validate(RunConfig, data, source="toy"))
    grid.run_cell(0)
    files = []
    for i in range(3):
        files.append(str(place / f"{i}.wav"))
        soundfile.write(files[-1], tone(300.0 * (i + 1), 0.12, i)[0], RATE, subtype="FLOAT")
    return grid.cells[0].folder, files, connect(f"sqlite:///{place / 'mlflow.db'}")


def models(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("toy")
    return sorted(client.search_logged_models([experiment.experiment_id]), key=lambda m: m.name)


@pytest.fixture
def served(run, monkeypatch) -> Any:
    import mlflow

    _, _, client = run
    monkeypatch.setenv("MEDLEY_DEVICE", "cpu")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(client.tracking_uri)
    yield lambda number: mlflow.pyfunc.load_model(f"models:/{models(client)[number].model_id}")
    mlflow.set_tracking_uri(before)


def test_it_says_what_predict_says(run, served) -> None:
    import pandas

    folder, files, _ = run
    expected = load_model(folder, device="cpu").predict(files)
    found = served(-1).predict(pandas.DataFrame({"path": files}))
    assert found["file"].tolist() == files
    assert found["label"].tolist() == [row.label for row in expected]
    for name in expected[0].probabilities:
        own = [row.probabilities[name] for row in expected]
        np.testing.assert_allclose(found[f"p({name})"], own, atol=1e-6)


def test_signals_are_as_good_as_files(run, served) -> None:
    _, files, _ = run
    signals = [soundfile.read(file, dtype="float32")[0] for file in files]
    by_file, by_signal = served(-1).predict(files), served(-1).predict(signals)
    assert by_signal["label"].tolist() == by_file["label"].tolist()
    shares = [c for c in by_file.columns if c.startswith("p(")]
    np.testing.assert_allclose(by_signal[shares], by_file[shares], atol=1e-6)


def test_each_experience_has_a_model_of_its_own(run, served) -> None:
    _, files, client = run
    assert len(models(client)) == 2
    first, last = served(0).predict(files), served(1).predict(files)
    shares = [c for c in first.columns if c.startswith("p(")]
    assert not np.allclose(first[shares], last[shares])
    assert (first[shares] == 0).to_numpy().sum() > (last[shares] == 0).to_numpy().sum()


def test_the_last_one_is_registered(run, served) -> None:
    import mlflow

    _, files, client = run
    (version,) = client.search_model_versions("name = 'tones'")
    assert version.tags["medley.learner"] == "finetune"
    found = mlflow.pyfunc.load_model("models:/tones/1").predict(files)
    assert found["label"].tolist() == served(-1).predict(files)["label"].tolist()


def test_another_table_is_refused(run, served) -> None:
    import pandas

    with pytest.raises(UserError, match=r"no column path \(it has a, b\)"):
        served(-1).predict(pandas.DataFrame({"a": [1], "b": [2]}))


def test_a_file_that_cannot_be_read_has_an_error(run, served, tmp_path: Path) -> None:
    _, files, _ = run
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    found = served(-1).predict([files[0], str(tmp_path / "bad.wav")])
    assert found["error"].tolist()[0] == ""
    assert "bad.wav" in found["error"].tolist()[1]
