"""A lock is held by one at a time, a file's or a folder's."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from multimodal.errors import UserError
from multimodal.locks import Held, held


@pytest.mark.parametrize("folder", [False, True])
def test_one_holds_it_at_a_time(tmp_path: Path, folder: bool) -> None:
    place = tmp_path / "lock"
    if folder:
        place.mkdir()
    with (
        held(place, "it is held"),
        pytest.raises(Held, match="it is held"),
        held(place, "it is held"),
    ):
        raise AssertionError
    with held(place, "it is free again"):
        pass
    assert issubclass(Held, UserError)
    assert not folder or not list(place.iterdir())  # a folder's lock leaves nothing in it


def test_patience_is_rewarded(tmp_path: Path) -> None:
    begun, order = threading.Event(), list[str]()

    def first() -> None:
        with held(tmp_path, "first"):
            begun.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    with held(tmp_path, "second", patience=30.0):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
