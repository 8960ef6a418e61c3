"""MLflow has everything of a run exactly once, whatever happened to the run or to the store."""

from __future__ import annotations

import json
import shutil
import socket
import time

import pytest

from benchmarks.tracking import tracker as background
from benchmarks.tracking.tracker import resend
from multimodal.errors import UserError
from tests.benchmarks.tracking_place import FILES, lose, result, write


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
    assert uri.replace("user:secret@", "") in message
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
    write(journal := place.journal, 0, 600)
    journal.close()
    place.model("experience_01")
    result().save(place.folder)
    text = resend(place.folder)
    assert "sent 600 journal lines, 1 models, 1 result" in text
    (run,) = place.runs()
    assert run.data.tags["medley.dataset"] == "fsdd"
    assert run.data.tags["medley.learner"] == "replay"
    assert place.history("loss") == [(i, 1 / (i + 1)) for i in range(600)]

    second = place.output_dir / "second.db"
    shutil.copy(empty_store, second)
    assert "sent 600 journal lines, 1 models" in resend(place.folder, uri=f"sqlite:///{second}")
    assert len(place.history("loss", f"sqlite:///{second}")) == 600
    assert len(place.history("loss")) == 600


def test_resend_needs_a_run_folder(tmp_path):
    with pytest.raises(UserError, match=r"no tracking\.json and no result\.json"):
        resend(tmp_path)


def test_resend_names_a_store_that_fails(place):
    result().save(place.folder)
    with pytest.raises(UserError, match=r"MLflow store nowhere://x failed.*another uri"):
        resend(place.folder, uri="nowhere://x")
