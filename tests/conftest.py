from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import shapes

shapes.install()  # before anything of ours is imported

# The suite runs several processes on few cores: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nor does a slow moment of a busy machine say anything about a property. The same examples each
# time: what a change did is told, not what chance brought; `make slow` looks for new ones.
settings.register_profile("search", deadline=None)
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """What code under test sets is nothing to the next one, nor to the processes that it starts."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def shapes_are_checked() -> None:
    shapes.begin_test()


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch) -> None:
    """No test pulls the plug: what is written need not have reached the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def no_addresses_of_other_tests(monkeypatch) -> None:
    """Addresses that a test has named are hidden in whatever the process prints afterwards."""
    from multimodal import credentials

    monkeypatch.setattr(credentials, "_given", set())


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real datasets; skips where it is absent."""
    folder = Path(os.environ.get("MEDLEY_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets in {folder} (set MEDLEY_DATA)")
    return folder
