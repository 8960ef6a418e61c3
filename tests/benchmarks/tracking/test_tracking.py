"""What MLflow has of a run."""

from __future__ import annotations

import json
import math
import time

import numpy as np

from benchmarks.tracking import tracker as background
from benchmarks.tracking.tracker import NullTracker, resend
from tests.benchmarks.tracking_place import FILES, TAGS, result, write


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
    files = {f.path for f in place.client.list_logged_model_artifacts(second.model_id)}
    loadable = {"MLmodel", "requirements.txt", "result.json"}
    assert files == {"experience_02.safetensors", *loadable}
    state = json.loads((place.folder / "tracking.json").read_text())
    assert state["sent_lines"] == 30
    assert state["done"]


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
    for step in range(300):
        began = time.perf_counter()
        journal.write({"loss": 0.5, "rate": 0.1}, step)
        tracker.grow(journal)
        spent.append(time.perf_counter() - began)
    tracker.fail()
    assert np.median(spent) < 200e-6  # measured: 10e-6
    assert len(place.history("loss")) == 300


def test_nan_and_strange_names_arrive(place):
    tracker, journal = place.started(), place.journal
    journal.write({"a b/../ä=1": math.nan, "inf": math.inf}, 3)
    tracker.finish(result(), [])
    journal.close()
    resend(place.folder)
    ((step, value),) = place.history("a b/__/ä_1")
    assert step == 3
    assert math.isnan(value)
