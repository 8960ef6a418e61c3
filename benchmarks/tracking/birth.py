"""The birth of an SQLite store: whole under its name, or not there at all.

MLflow makes its tables by some fifty migrations, seconds in which a second process, or the end of
this one, leaves a file that nothing can use any more. So they are made in a file beside it, under a
lock, which then gets the name.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from multimodal.errors import UserError
from multimodal.locks import held

PATIENCE = 600.0  # seconds that another process may take for it: some 10, many more on a busy disk


class Found(NamedTuple):
    """In a file: tables, revision of MLflow's schema ("" for none), whether it holds runs."""

    tables: bool
    revision: str
    runs: bool


def ensure_born(uri: str) -> None:
    """Make the SQLite store of ``uri`` if it does not exist; other stores make themselves.

    UserError for a file that is no database, was left half made, or is of another MLflow's schema
    (which MLflow would begin to migrate).
    """
    path = database_file(uri)
    if path is None or _is_ready(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    words = f"{path}: another process has been making it for {PATIENCE:.0f} s; end it, try again."
    with held(lock, words, patience=PATIENCE):
        if not _is_ready(path):  # another process may just have made it
            _bear(path)
        lock.unlink(missing_ok=True)  # who waited for it finds the store


def database_file(uri: str) -> Path | None:
    """The file of ``sqlite:///FILE``; None for every other kind of store."""
    name = uri.partition("?")[0].removeprefix("sqlite:///")
    if not uri.startswith("sqlite:///") or name in ("", ":memory:") or name.startswith("file:"):
        return None
    return Path(unquote(name))


def database_uri(path: Path) -> str:
    """The other way round: ? and % stand for something else in an address."""
    return f"sqlite:///{path.as_posix().replace('%', '%25').replace('?', '%3F')}"


def _is_ready(path: Path) -> bool:
    """False if there is nothing yet; UserError if there is something that cannot be used."""
    if not path.is_file() or not path.stat().st_size:
        return False
    found = _look(path)
    if found is None:
        return True  # busy: MLflow waits for it by itself
    if not found.tables:
        return False
    if found.revision == _newest():
        return True
    if not found.runs:
        raise UserError(
            f"{path}: a tracking store that was left half made, without any run (its maker was "
            "ended), or made by another version of MLflow; delete this file."
        )
    raise UserError(
        f"{path}: its schema is {found.revision or 'unknown'}, that of this MLflow {_newest()}; "
        f"keep a copy of the file, then run `mlflow db upgrade sqlite:///{path}` with the newer "
        "of the two versions of MLflow."
    )


def _look(path: Path) -> Found | None:
    """None if the file is busy or cannot be opened; UserError if it is no database."""
    try:
        # Writing is allowed so that SQLite can take back what a killed process had half written.
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in rows}
            revision, runs = "", False
            if "alembic_version" in names:
                row = database.execute("SELECT version_num FROM alembic_version").fetchone()
                revision = row[0] if row else ""
            if "runs" in names:
                runs = database.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: no SQLite database, or a damaged one ({error}); give another tracking.uri, "
            "or move the file away."
        ) from error
    return Found(any(not name.startswith("alembic_") for name in names), revision, runs)


def _bear(path: Path) -> None:
    """Make the store; the lock is held."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event

    made = path.with_name(f".{path.name}.new")
    for left in path.parent.glob(f"{made.name}*"):  # by a process that was ended, with its journal
        left.unlink()
    uri = database_uri(made)
    engine = SqlAlchemyStore._get_or_create_engine(uri)
    event.listen(engine, "connect", _hurry)
    engine.dispose()  # connections made before it hears of them
    try:
        SqlAlchemyStore(uri, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        engine.dispose()
        with made.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(made, path)
    except BaseException:
        for left in path.parent.glob(f"{made.name}*"):  # a full disk needs it most
            left.unlink(missing_ok=True)
        raise


def _hurry(connection: sqlite3.Connection, record: object) -> None:
    """No waiting for the disk at each migration: the file counts only when it is whole."""
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = MEMORY")


@lru_cache(maxsize=1)
def _newest() -> str:
    """The revision that the migrations of this MLflow lead to."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return _get_latest_schema_revision()
