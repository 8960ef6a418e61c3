"""Fixtures that several test files share: the command, tiny recordings, a migrated MLflow store."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from benchmarks.reports import pictures
from benchmarks.tracking import store as tracking
from benchmarks.tracking import tracker as background
from tests.benchmarks.tracking_place import Place
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import RATE, tone

TINY = """\
experiment: tiny
dataset: {name: folder, root: clips}
scenario: {name: class_incremental, num_experiences: 2}
learners: [finetune]
encoder: {name: compact, width: 16, depth: 1, heads: 2}
training: {epochs: 1, device: cpu}
tracking: {store: none}
"""


DRAWN: dict[str, bytes] = {}  # pictures by their names


class Outcome(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: object
    out: str
    err: str


@pytest.fixture
def medley(monkeypatch, capsys, tmp_path) -> Callable[..., Outcome]:
    """``medley(*words)``: the command in this process, in the working folder ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MEDLEY_WORKERS", "1")  # what is patched here counts in this process alone
    for variable in ("MEDLEY_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)

    def call(*words: str) -> Outcome:
        from benchmarks.cli import main

        monkeypatch.setattr(sys, "argv", ["medley", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Outcome(stopped.value.code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def a_picture_of_each_kind_is_drawn_once(monkeypatch) -> None:
    """The others are made and not drawn, which takes a third of a second."""
    save = pictures.save_figure

    def once(figure: Any, path: Path, *, dpi: int) -> None:
        if path.name in DRAWN:
            path.write_bytes(DRAWN[path.name])
            return
        save(figure, path, dpi=dpi)
        DRAWN[path.name] = path.read_bytes()

    monkeypatch.setattr(pictures, "save_figure", once)


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A folder with ``tiny.yaml`` and ``clips/{low,high}/{0..3}.wav`` of different lengths."""
    for pitch, name in ((300, "low"), (900, "high")):
        folder = tmp_path / "clips" / name
        folder.mkdir(parents=True)
        for i in range(4):
            signal = np.squeeze(tone(pitch, 0.1 + 0.01 * i, pitch + i), 0)
            soundfile.write(folder / f"{i}.wav", signal, RATE)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def files() -> dict[str, bytes]:
    """Name -> content of every file below the working folder, but for locks and digests."""
    kept = (".lock", "digests")
    found = [p for p in Path().rglob("*") if p.is_file() and p.name not in kept]
    return {str(p): p.read_bytes() for p in found}


@pytest.fixture
def refuse(medley, tiny):
    """The command refuses: ``lines`` clear lines that hold all ``words``, and no file changes.

    ``made``: pattern of the names of files that it may leave behind nevertheless.
    """

    def check(command: str, *words: str, lines: int = 1, made: str = "") -> None:
        before = files()
        outcome = medley(*shlex.split(command))
        assert outcome.code == 2, outcome
        found = outcome.err.splitlines()
        assert len(found) == lines, outcome.err
        assert all(line.startswith("error: ") and len(line) > 20 for line in found)
        for word in words:
            assert word in outcome.err
        after = files()
        assert {k: v for k, v in after.items() if k in before} == before
        assert all(fnmatch(Path(name).name, made) for name in after.keys() - before.keys())

    return check


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> dict[str, Any]:
    """A tiny text encoder, as the ``text`` of a config."""
    folder = tmp_path_factory.mktemp("text") / "bert"
    save_text_checkpoint(folder, "bert")
    return {"checkpoint": str(folder), "max_length": 16}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """An SQLite file with MLflow's tables in it: making them takes seconds, copying it nothing."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def place(tmp_path, empty_store, monkeypatch) -> Place:
    """An output folder with a store of its own, whose tracker waits for nothing."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(background, "INTERVAL", 0.0)
    return Place(tmp_path / "runs", empty_store)
