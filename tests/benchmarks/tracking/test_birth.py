"""A tracking store is born whole or not at all, whoever comes and whenever its maker is killed."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.tracking import birth
from benchmarks.tracking.birth import ensure_born
from benchmarks.tracking.store import connect
from multimodal.errors import UserError

MAKE = "import sys; from benchmarks.tracking.birth import ensure_born; ensure_born(sys.argv[1])"


def maker(uri: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", MAKE, uri])


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def check_whole(folder: Path) -> None:
    assert [e.name for e in connect(uri_of(folder)).search_experiments()] == ["Default"]
    assert [p.name for p in folder.iterdir()] == ["mlflow.db"]


def kill_while_made(folder: Path, size: int) -> None:
    """Kill the maker when its file has this many bytes, or nothing is made any more."""
    process = maker(uri_of(folder))
    made = folder / ".mlflow.db.new"
    while process.poll() is None and not (made.exists() and made.stat().st_size >= size):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_two_makers_at_once(tmp_path) -> None:
    makers = [maker(uri_of(tmp_path)) for _ in range(2)]
    assert [process.wait() for process in makers] == [0, 0]
    check_whole(tmp_path)


def test_a_killed_maker_leaves_nothing_that_matters(tmp_path) -> None:
    kill_while_made(tmp_path, 100_000)
    assert not (tmp_path / "mlflow.db").exists()
    assert (tmp_path / ".mlflow.db.new").exists()
    check_whole(tmp_path)


@pytest.mark.slow
def test_kills_at_any_moment_and_four_makers(tmp_path) -> None:
    rng = random.Random(0)
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill_while_made(folder, rng.randrange(1, 900_000))
        makers = [maker(uri_of(folder)) for _ in range(4 if number % 4 == 0 else 1)]
        assert [process.wait() for process in makers] == [0] * len(makers)
        check_whole(folder)


def test_an_empty_file_is_no_store_yet(tmp_path, empty_store, monkeypatch) -> None:
    monkeypatch.setattr(birth, "_bear", lambda path: shutil.copy(empty_store, path))
    (tmp_path / "mlflow.db").touch()
    ensure_born(uri_of(tmp_path))
    check_whole(tmp_path)


def changed(store: Path, path: Path, *statements: str) -> str:
    shutil.copy(store, path)
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()
    return f"sqlite:///{path}"


ONE_RUN = "INSERT INTO runs (run_uuid, experiment_id, status) VALUES ('r', 0, 'RUNNING')"


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["DELETE FROM alembic_version"], "left half made, without any run"),
        (
            ["DROP TABLE metrics", "UPDATE alembic_version SET version_num = 'x'"],
            "delete this file",
        ),
        (
            ["UPDATE alembic_version SET version_num = '90e64c465722'", ONE_RUN],
            "its schema is 90e64",
        ),
        (["DROP TABLE alembic_version", ONE_RUN], "its schema is unknown, that of this MLflow"),
    ],
)
def test_a_store_of_another_schema_is_refused_and_left_alone(
    tmp_path, empty_store, statements: list[str], words: str
) -> None:
    path = tmp_path / "mlflow.db"
    uri = changed(empty_store, path, *statements)
    before = path.read_bytes()
    with pytest.raises(UserError) as caught:
        connect(uri)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(tmp_path) -> None:
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be looked into" * 40)
    with pytest.raises(UserError, match="no SQLite database, or a damaged one"):
        connect(uri_of(tmp_path))


def test_a_maker_that_hangs_is_not_waited_for_for_ever(tmp_path, monkeypatch) -> None:
    from multimodal.locks import held

    monkeypatch.setattr(birth, "PATIENCE", 0.2)
    with held(tmp_path / ".mlflow.db.lock", ""), pytest.raises(UserError, match="has been making"):
        ensure_born(uri_of(tmp_path))


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "sqlite://", "sqlite:///:memory:", "x"])
def test_other_stores_make_themselves(uri: str) -> None:
    assert birth.database_file(uri) is None
    ensure_born(uri)


@pytest.mark.parametrize("name", ["new/folder/a.db", "a%20b.db", "a?b.db", "100%.db", "a b.db"])
def test_whatever_its_name_it_is_made_under_a_lock(tmp_path, monkeypatch, name: str) -> None:
    made = []
    bear = birth._bear
    monkeypatch.setattr(birth, "_bear", lambda path: (made.append(path), bear(path)))
    uri = birth.database_uri(tmp_path / name)
    assert [e.name for e in connect(uri).search_experiments()] == ["Default"]
    assert made == [tmp_path / name]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == made


def test_options_of_an_address_are_no_part_of_the_name(tmp_path) -> None:
    assert birth.database_file(f"{uri_of(tmp_path)}?timeout=9") == tmp_path / "mlflow.db"
    assert birth.database_file("sqlite:///file:a?mode=ro&uri=true") is None
