"""MLflow has everything of a run exactly once, whatever happened to the run or to the store."""

from __future__ import annotations

import json
import math
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from benchmarks import background, tracking
from benchmarks.journal import Journal
from benchmarks.result import Result
from benchmarks.tracking import NullTracker, TrackingConfig, make_tracker, resend
from multimodal.errors import UserError

CONFIG = {
    "experiment": "digits",
    "training": {"epochs": 5, "rate": 0.1, "note": "x" * 7000},
    "seeds": [0, 1],
    "root": None,
    "many": {f"key{i}": i for i in range(150)},
}
TAGS = {"medley.config_hash": "abc", "medley.learner": "replay", "medley.seed": "0"}
DATASET = {"name": "fsdd", "version": "1.0", "content_hash": "0123456789abcdef", "licence": "CC"}
MATRIX = [[0.5, None], [0.25, 1.0]]
FILES = {"config.yaml", "accuracy_matrix.json", "accuracy_matrix.png", "result.json"}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.connect(f"sqlite:///{path}").search_experiments()
    return path


class Place:
    """An output folder with its own store, and one run folder in it."""

    def __init__(self, output_dir: Path, empty_store: Path) -> None:
        self.output_dir = output_dir
        self.folder = output_dir / "digits" / "abc"
        self.folder.mkdir(parents=True)
        shutil.copy(empty_store, output_dir / "mlflow.db")
        self.uri = f"sqlite:///{output_dir / 'mlflow.db'}"
        self.client = tracking.connect(self.uri)

    def tracker(self, **fields):
        config = TrackingConfig(**fields)
        return make_tracker(
            config, experiment="digits", folder=self.folder, output_dir=self.output_dir
        )

    def started(self, **fields):
        tracker = self.tracker(**fields)
        tracker.start(CONFIG, TAGS, DATASET)
        return tracker

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "metrics.jsonl")

    def runs(self, uri: str | None = None):
        client = tracking.connect(uri) if uri else self.client
        ids = [client.get_experiment_by_name("digits").experiment_id]
        return client.search_runs(ids)

    def history(self, key: str, uri: str | None = None) -> list[tuple[int, float]]:
        (run,) = self.runs(uri)
        client = tracking.connect(uri) if uri else self.client
        return sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))

    def model(self, name: str) -> Path:
        path = self.folder / "models" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        safetensors.torch.save_file({"w": torch.arange(3.0)}, path)
        return path

    def models(self):
        ids = [self.client.get_experiment_by_name("digits").experiment_id]
        return sorted(self.client.search_logged_models(ids), key=lambda m: m.name)

    def artifacts(self) -> set[str]:
        (run,) = self.runs()
        return {f.path for f in self.client.list_artifacts(run.info.run_id)}


@pytest.fixture
def place(tmp_path, empty_store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(background, "INTERVAL", 0.0)
    return Place(tmp_path / "runs", empty_store)


def result() -> Result:
    metrics = {
        "average_accuracy": 0.625,
        "forgetting": 0.25,
        "forward_transfer": None,
        "accuracy_matrix": MATRIX,
        "per_class_accuracy": {"one": 0.5},
    }
    return Result(
        experiment="digits",
        config_hash="abc",
        learner="replay",
        scenario="class_incremental",
        modality="speech",
        seed=0,
        quick=True,
        dataset=DATASET,
        class_names=["one", "two"],
        experiences=[{"name": "first"}, {"name": "second"}],
        metrics=metrics,
        config=CONFIG,
    )


def lose(client_class, monkeypatch):
    """From now on the store answers nothing."""

    def broken(*args, **kwargs):
        raise ConnectionError("server went away")

    for name in ("log_batch", "log_model_artifact", "set_terminated", "log_artifact", "get_run"):
        monkeypatch.setattr(client_class, name, broken)


def write(journal: Journal, start: int, stop: int) -> None:
    for step in range(start, stop):
        journal.write({"loss": 1 / (step + 1), "rate": float(step)}, step)


def test_a_whole_run(place):
    tracker, journal = place.started(), place.journal
    for step in range(30):
        write(journal, step, step + 1)
        tracker.grow(journal)
        if step % 15 == 14:
            name = f"experience_{step // 15 + 1:02d}"
            tracker.log_model(name, place.model(name), {"mean_test_accuracy": step / 30})
    result().save(place.folder)
    (place.folder / "report.html").write_text("<html></html>")
    tracker.finish(result(), [place.folder / "report.html"])

    (run,) = place.runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "replay-0"
    assert {k: run.data.tags[k] for k in TAGS} == TAGS
    params = run.data.params
    assert params["training.epochs"] == "5"
    assert params["training.rate"] == "0.1"
    assert params["training.note"] == "x" * 6000
    assert params["seeds"] == "[0, 1]"
    assert params["root"] == "null"
    assert all(params[f"many.key{i}"] == str(i) for i in range(150))

    assert place.history("loss") == [(i, 1 / (i + 1)) for i in range(30)]
    assert place.history("rate") == [(i, float(i)) for i in range(30)]
    assert place.history("mean_test_accuracy") == [(0, 14 / 30), (1, 29 / 30)]
    assert run.data.metrics["average_accuracy"] == 0.625
    assert not {"accuracy_matrix", "forward_transfer", "per_class_accuracy"} & set(run.data.metrics)

    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("fsdd", "0123456789abcdef")
    assert json.loads(data.dataset.source)["tags"] == {"version": "1.0", "licence": "CC"}

    assert place.artifacts() == FILES | {"report.html"}
    root = place.output_dir / "mlartifacts" / run.info.run_id / "artifacts"
    assert (root / "result.json").read_bytes() == (place.folder / "result.json").read_bytes()
    assert (root / "accuracy_matrix.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((root / "accuracy_matrix.json").read_text())
    assert table["columns"] == ["after", "1 first", "2 second"]
    assert table["data"] == [["1 first", 0.5, None], ["2 second", 0.25, 1.0]]
    shown_as = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert shown_as == [{"path": "accuracy_matrix.json", "type": "table"}]

    first, second = place.models()
    assert [first.name, second.name] == ["experience_01", "experience_02"]
    assert first.status == "READY" == second.status
    assert second.source_run_id == run.info.run_id
    assert {m.key: m.value for m in second.metrics} == {"mean_test_accuracy": 29 / 30}
    assert {o.model_id for o in run.outputs.model_outputs} == {first.model_id, second.model_id}
    (file,) = place.client.list_logged_model_artifacts(second.model_id)
    assert file.path == "experience_02.safetensors"
    state = json.loads((place.folder / "tracking.json").read_text())
    assert state["sent_lines"] == 30
    assert state["done"]


@pytest.mark.parametrize("remembered", [True, False])
def test_every_step_once_after_a_crash_and_resume(place, remembered):
    """Also if the crash came between sending and remembering (``tracking.json`` is older)."""
    tracker, journal = place.started(), place.journal
    before = (place.folder / "tracking.json").read_text()
    write(journal, 0, 10)
    checkpoint = journal.flush()
    write(journal, 10, 20)
    tracker.grow(journal)
    tracker.fail()
    assert place.runs()[0].info.status == "FAILED"
    assert len(place.history("loss")) == 20
    if not remembered:
        (place.folder / "tracking.json").write_text(before)

    resumed, journal = place.started(), place.journal
    assert place.runs()[0].info.status == "RUNNING"
    journal.truncate(checkpoint)
    for step in range(10, 30):
        write(journal, step, step + 1)
        resumed.grow(journal)
        time.sleep(0.002)  # other times than before the crash
    resumed.finish(result(), [])
    assert place.history("loss") == [(i, 1 / (i + 1)) for i in range(30)]
    assert place.runs()[0].info.status == "FINISHED"
    assert len(place.runs()[0].inputs.dataset_inputs) == 1


def test_a_store_lost_in_mid_run_costs_one_warning_and_nothing_else(place, monkeypatch, capsys):
    from mlflow import MlflowClient

    tracker, journal = place.started(), place.journal
    write(journal, 0, 5)
    tracker.grow(journal)
    with monkeypatch.context() as context:
        lose(MlflowClient, context)
        began = time.monotonic()
        for step in range(5, 50):
            write(journal, step, step + 1)
            tracker.grow(journal)
        tracker.log_model("m", place.model("m"), {"mean_test_accuracy": 1.0})
        tracker.finish(result(), [])
        assert time.monotonic() - began < 5
        error = capsys.readouterr().err
        assert error.count("medley: MLflow at") == 1
        assert "server went away" in error
        assert f"medley report --resend {place.folder}" in error
    assert place.runs()[0].info.status == "RUNNING"

    assert "1 models, 1 result" in resend(place.folder)
    assert place.history("loss") == [(i, 1 / (i + 1)) for i in range(50)]
    assert place.runs()[0].info.status == "FINISHED"
    assert len(place.models()) == 1
    assert place.artifacts() == FILES

    assert "sent 0 journal lines, 0 models, 0 result" in resend(place.folder)
    assert len(place.runs()) == 1
    assert len(place.history("loss")) == 50
    assert len(place.history("average_accuracy")) == 1


def test_a_store_lost_at_the_very_end_gets_nothing_twice(place, monkeypatch):
    from mlflow import MlflowClient

    tracker = place.started()
    tracker.log_model("m", place.model("m"), {"mean_test_accuracy": 1.0})

    def broken(*args, **kwargs):
        raise ConnectionError("server went away")

    with monkeypatch.context() as context:
        context.setattr(MlflowClient, "set_terminated", broken)
        tracker.finish(result(), [])
    resend(place.folder)
    (run,) = place.runs()
    assert run.info.status == "FINISHED"
    assert len(place.history("average_accuracy")) == len(place.history("mean_test_accuracy")) == 1
    assert len(run.outputs.model_outputs) == len(place.models()) == 1
    table = place.output_dir / "mlartifacts" / run.info.run_id / "artifacts/accuracy_matrix.json"
    assert len(json.loads(table.read_text())["data"]) == 2


def test_a_store_that_comes_back_gets_the_rest(place, monkeypatch, capsys):
    from mlflow import MlflowClient

    monkeypatch.setattr(background, "PATIENCE", 0.0)
    tracker, journal = place.started(), place.journal
    with monkeypatch.context() as context:
        lose(MlflowClient, context)
        for step in range(20):
            write(journal, step, step + 1)
            tracker.grow(journal)
            time.sleep(0.005)
    tracker.grow(journal)
    tracker.finish(result(), [])
    assert place.history("loss") == [(i, 1 / (i + 1)) for i in range(20)]
    assert capsys.readouterr().err.count("medley: MLflow at") == 1


def test_fail_without_a_store_is_sent_later(place, monkeypatch):
    from mlflow import MlflowClient

    tracker = place.started()
    write(place.journal, 0, 3)
    with monkeypatch.context() as context:
        lose(MlflowClient, context)
        tracker.fail()
    resend(place.folder)
    assert place.runs()[0].info.status == "FAILED"


def test_an_unreachable_server_is_named_at_once(place, monkeypatch):
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        began = time.monotonic()
        with pytest.raises(UserError) as error:
            place.started()
        assert time.monotonic() - began < 5
    message = str(error.value)
    assert "\n" not in message
    assert uri.replace("user:secret", "***") in message
    assert "secret" not in message
    assert "onnection refused" in message
    assert "tracking.store=none" in message


def test_a_deleted_experiment_is_named(place):
    place.client.delete_experiment(place.client.create_experiment("digits"))
    with pytest.raises(UserError, match=r"experiment 'digits' was deleted.*restore -x 1"):
        place.started()


def test_a_deleted_run_is_made_again(place):
    place.started().fail()
    place.client.delete_run(place.runs()[0].info.run_id)
    tracker, journal = place.started(), place.journal
    write(journal, 0, 3)
    tracker.grow(journal)
    tracker.finish(result(), [])
    assert len(place.history("loss")) == 3


def test_resend_of_an_untracked_run_and_to_a_second_store(place, empty_store):
    write(journal := place.journal, 0, 1100)
    journal.close()
    place.model("experience_01")
    result().save(place.folder)
    text = resend(place.folder)
    assert "sent 1100 journal lines, 1 models, 1 result" in text
    (run,) = place.runs()
    assert run.data.tags["medley.dataset"] == "fsdd"
    assert run.data.tags["medley.learner"] == "replay"
    assert place.history("loss") == [(i, 1 / (i + 1)) for i in range(1100)]

    second = place.output_dir / "second.db"
    shutil.copy(empty_store, second)
    assert "sent 1100 journal lines, 1 models" in resend(place.folder, uri=f"sqlite:///{second}")
    assert len(place.history("loss", f"sqlite:///{second}")) == 1100
    assert len(place.history("loss")) == 1100


def test_resend_needs_a_run_folder(tmp_path):
    with pytest.raises(UserError, match=r"no tracking\.json and no result\.json"):
        resend(tmp_path)


def test_resend_names_a_store_that_fails(place):
    result().save(place.folder)
    with pytest.raises(UserError, match=r"MLflow store nowhere://x failed.*another uri"):
        resend(place.folder, uri="nowhere://x")


def test_nothing_is_tracked_with_store_none(place):
    tracker = place.started(store="none")
    assert type(tracker) is NullTracker
    tracker.grow(place.journal)
    tracker.log_model("m", place.folder / "none")
    tracker.finish(result(), [])
    tracker.fail()
    assert list(place.folder.iterdir()) == []


def test_models_can_be_left_out_and_the_machine_watched(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    tracker = place.started(log_models=False, system_metrics=True)
    tracker.log_model("m", place.model("m"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not place.runs()[0].data.metrics:
        time.sleep(0.1)
    tracker.finish(result(), [])
    assert place.models() == []
    assert "system/cpu_utilization_percentage" in place.runs()[0].data.metrics


def test_growing_costs_a_step_next_to_nothing(place, monkeypatch):
    monkeypatch.setattr(background, "INTERVAL", 2.0)
    tracker, journal = place.started(), place.journal
    spent = []
    for step in range(1000):
        began = time.perf_counter()
        journal.write({"loss": 0.5, "rate": 0.1}, step)
        tracker.grow(journal)
        spent.append(time.perf_counter() - began)
    tracker.fail()
    assert np.median(spent) < 200e-6  # measured: 10e-6
    assert len(place.history("loss")) == 1000


def test_nan_and_strange_names_arrive(place):
    tracker, journal = place.started(), place.journal
    journal.write({"a b/../ä=1": math.nan, "inf": math.inf}, 3)
    tracker.finish(result(), [])
    journal.close()
    resend(place.folder)
    ((step, value),) = place.history("a b/__/ä_1")
    assert step == 3
    assert math.isnan(value)
