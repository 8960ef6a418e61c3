"""Nothing is silent for long: a word now and then where no bar is seen."""

from __future__ import annotations

import threading
import time

import pytest

from multimodal import bars
from multimodal.bars import Pulse, bar, shown


@pytest.fixture(autouse=True)
def soon(monkeypatch) -> None:
    monkeypatch.setattr(bars, "QUIET", 0.05)


def test_a_pulse_speaks_while_nothing_is_shown_and_stops() -> None:
    said: list[str] = []
    with Pulse(said.append, lambda: "at work"):
        deadline = time.monotonic() + 20
        while len(said) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    count = len(said)
    assert count >= 2
    assert all(line.startswith("at work (") and line.endswith(" s)") for line in said)
    time.sleep(0.15)
    assert len(said) == count
    assert not any(thread.name == "pulse" for thread in threading.enumerate())


def test_it_is_still_while_something_is_shown(monkeypatch) -> None:
    monkeypatch.setattr(bars, "QUIET", 5.0)
    said: list[str] = []
    with Pulse(said.append, lambda: "at work"):
        for _ in range(5):
            shown()
            time.sleep(0.02)
    assert said == []


def test_a_bar_without_a_terminal_counts_in_lines(capsys) -> None:
    with bar("decoding", 3) as advance:
        for _ in range(3):
            time.sleep(0.06)
            advance()
    assert [line.rpartition(" (")[0] for line in capsys.readouterr().err.splitlines()] == [
        "decoding: 1 of 3",
        "decoding: 2 of 3",
    ]


def test_a_bar_that_is_not_wanted_says_nothing(capsys) -> None:
    with bar("decoding", 2, shown=False) as advance:
        time.sleep(0.06)
        advance()
    assert capsys.readouterr().err == ""
