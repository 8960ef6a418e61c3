"""A real MLflow server on this machine, killed and started again while a config's cells run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.runs import session
from benchmarks.tracking import parent as parents
from benchmarks.tracking import tracker
from benchmarks.tracking.parent import PARENT_TAG, Parent
from benchmarks.tracking.store import connect
from tests.toy import toy_data

PATIENCE = 60.0


class Server:
    """``mlflow server`` over an SQLite file."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "files")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=1).close()
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.mark.slow
def test_nothing_is_lost(tmp_path, empty_store, monkeypatch, capsys) -> None:
    monkeypatch.setattr(parents, "INTERVAL", 0.0)
    monkeypatch.setattr(tracker, "PATIENCE", 0.0)
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])
    shutil.copy(empty_store, tmp_path / "server.db")
    server = Server(tmp_path)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    data = toy_data(
        learners=["finetune"],
        seeds=[1, 2, 3],
        training={"epochs": 1, "device": "cpu", "log_every": 1},
        tracking={"store": "mlflow"},
        output_dir=str(tmp_path / "runs"),
    )
    try:
        grid = Cells(validate(RunConfig, data, source="toy"))
        parent = Parent(grid.cells, grid.config.to_yaml())
        grid.run_cell(0)
        parent.update()
        server.kill()
        grid.run_cell(1)  # without a store
        parent.update()
        assert "medley: MLflow at" in capsys.readouterr().err
        server.start()
        grid.run_cell(2)
        parent.update(ended=True)
        client = connect(server.uri)
        runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
        (top,) = [run for run in runs if PARENT_TAG not in run.data.tags]
        below = [run for run in runs if run.data.tags.get(PARENT_TAG) == top.info.run_id]
        assert len(below) == 3
        assert {run.info.status for run in runs} == {"FINISHED"}
        lines = {len(client.get_metric_history(run.info.run_id, "loss")) for run in below}
        assert len(lines) == 1
        assert lines.pop() > 1
        models = client.search_logged_models([top.info.experiment_id])
        assert len(models) == 3 * len(grid.streams[0])
        assert "last_accuracy/finetune/ci95" in top.data.metrics
    finally:
        server.kill()
