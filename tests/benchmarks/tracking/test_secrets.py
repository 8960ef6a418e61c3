"""Credentials of a tracking store: in no file of a run, in no store, on no terminal."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import read_back
from benchmarks.tracking import run as run_module
from benchmarks.tracking import store
from benchmarks.tracking.avalanche import MLflowLogger
from benchmarks.tracking.state import State, store_uri
from benchmarks.tracking.tracker import resend
from multimodal.errors import UserError
from tests.benchmarks.tracking_uris import SECRET, URIS

BENCH = ("bench", "tiny.yaml", "learners=[majority]", "tracking.store=mlflow")


def some(uris: tuple[str, ...], step: int) -> list[Any]:
    """All of them in `make slow`, every so many otherwise: MLflow takes its time over each."""
    return [
        pytest.param(uri, marks=[pytest.mark.slow] * bool(i % step)) for i, uri in enumerate(uris)
    ]


def leaks(place: Path) -> list[str]:
    """Every file below a folder that holds the secret, or is called so."""
    found = [p for p in place.rglob("*") if p.is_file() and p.name != "secret.yaml"]
    told = SECRET.lower().encode()
    return [
        str(p) for p in found if told in p.read_bytes().lower() or told in str(p).lower().encode()
    ]


@pytest.fixture
def elsewhere(tmp_path, empty_store, monkeypatch) -> Path:
    """Whatever address is given, the store is this file, as a server would keep it."""
    path, keep = tmp_path / "server.db", store.connect
    path.write_bytes(empty_store.read_bytes())

    def connect(uri: str, *, timeout: int = 5):
        return keep(f"sqlite:///{path}", timeout=timeout)

    for module in (store, run_module):
        monkeypatch.setattr(module, "connect", connect)
    return path


def given(place: Path, uri: str) -> str:
    """A config that names the store, as a user writes it."""
    text = (place / "tiny.yaml").read_text().replace("{store: none}", "")
    data = {**yaml.safe_load(text), "tracking": {"store": "mlflow", "uri": uri}}
    (place / "secret.yaml").write_text(yaml.safe_dump(data))
    return "secret.yaml"


@pytest.mark.parametrize("uri", some(URIS, 6))
def test_a_store_that_cannot_be_reached(uri: str, medley, tiny, monkeypatch) -> None:
    """Whichever way it is given."""
    by_config = medley("bench", given(tiny, uri), "learners=[majority]")
    by_word = medley(*BENCH, f"tracking.uri={uri}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    by_environment = medley(*BENCH)
    for outcome in (by_config, by_word, by_environment):
        assert SECRET.lower() not in (outcome.out + outcome.err).lower()
        assert "Traceback" not in outcome.err
        assert outcome.code in (0, 2)  # a path that can be made is a store
    assert not leaks(tiny)


@pytest.mark.parametrize("uri", some(URIS[::3], 4))
def test_a_run_and_all_that_is_written_of_it(uri: str, medley, tiny, elsewhere) -> None:
    """Every file of the run, the store, both outputs; the config reads back, and resumes."""
    words = ("bench", given(tiny, uri), "learners=[majority]")
    shown = [medley(*words), medley(*words), medley("report", "runs", "--resend")]
    shown += [medley("config", "show", "secret.yaml")]
    assert [outcome.code for outcome in shown[:2]] == [0, 0]
    assert "done before" in shown[1].err
    for outcome in shown:
        assert SECRET not in outcome.out + outcome.err
        assert "Traceback" not in outcome.err
    assert not leaks(tiny)
    (folder,) = Path("runs/tiny").glob("*/config.yaml")
    assert read_back(RunConfig, folder.parent, "").hash == folder.parent.name


def test_a_store_that_is_lost_on_the_way(medley, tiny, elsewhere, monkeypatch, capsys) -> None:
    uri = URIS[8]

    def fail(*args, **kwargs):
        raise RuntimeError(f"cannot POST {uri}/api?token={SECRET} ({SECRET})" + "x" * 300)

    monkeypatch.setattr(run_module, "send_points", fail)
    outcome = medley("bench", given(tiny, uri), "learners=[majority]")
    assert outcome.code == 0
    assert "failed" in outcome.err
    assert SECRET not in outcome.out + outcome.err
    assert not leaks(tiny)


def test_a_fault_of_ours_keeps_the_secret_in_its_traceback(medley, tiny, monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise KeyError(f"what is {URIS[3]}?")

    monkeypatch.setattr("benchmarks.commands.bench.cells.check_store", fail)
    outcome = medley(*BENCH, f"tracking.uri={URIS[3]}")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "KeyError" in outcome.err
    assert SECRET not in outcome.err


def test_a_wrong_setting_is_shown_without_it(refuse, medley, tiny) -> None:
    for wrong in (f"tracking={URIS[0]}", f"tracking.url={URIS[0]}", f"tracking..uri={URIS[0]}"):
        outcome = medley("bench", "tiny.yaml", wrong)
        assert outcome.code == 2
        assert SECRET not in outcome.err


def test_the_environment_has_the_credentials_of_a_kept_address(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:word@host:5000")
    assert store_uri("http://host:5000", tmp_path) == "http://me:word@host:5000"
    assert store_uri(None, tmp_path) == "http://me:word@host:5000"
    assert store_uri("http://other", tmp_path) == "http://other"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store_uri("http://host:5000", tmp_path) == "http://host:5000"
    assert store_uri(None, tmp_path).endswith("/mlflow.db")


def test_a_run_whose_address_was_not_kept_is_sent_nowhere_else(
    place, elsewhere, monkeypatch
) -> None:
    secret = place.tracker(uri=URIS[3])
    secret.start({}, {}, {})
    secret.fail()
    with pytest.raises(UserError, match="was not kept; give it again as MLFLOW_TRACKING_URI"):
        resend(place.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URIS[3])
    assert SECRET not in resend(place.folder)
    state = State.known(place.folder)
    assert state is not None
    assert state.uri == "http://***"


def test_a_pickled_logger_has_no_credentials() -> None:
    logger = MLflowLogger.__new__(MLflowLogger)
    logger.uri, logger.run_id, logger._points = URIS[0], "r", []
    logger._retry_at = float("inf")
    assert SECRET.encode() not in pickle.dumps(logger.__getstate__())
