"""Without a terminal, a run says now and then how far it is."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from benchmarks.runs.terminal import TerminalObserver, checking
from multimodal import bars


@pytest.fixture(autouse=True)
def soon(monkeypatch) -> None:
    monkeypatch.setattr(bars, "QUIET", 0.05)


def wait_for(out: io.StringIO, words: str) -> str:
    deadline = time.monotonic() + 20
    while words not in out.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    return out.getvalue()


def test_it_tells_the_run_and_its_step() -> None:
    out = io.StringIO()
    with TerminalObserver(Console(file=out, width=200)) as observer:
        observer.title = "[1/22] er seed 1"
        assert "[1/22] er seed 1: preparing (" in wait_for(out, "preparing (")
        observer.begin(40, 7)
        assert "[1/22] er seed 1: resumed at step 7 of 40\n" in out.getvalue()
        assert "[1/22] er seed 1: step 7 of 40 (" in wait_for(out, "step 7 of 40 (")
        observer.begin(40, 40)
        assert "all 40 steps taken, evaluating (" in wait_for(out, "evaluating (")
        observer.experience_done(0, 2, "accuracy", [0.5])
        assert "[1/22] er seed 1: experience 1/2  test accuracy %  50.0\n" in out.getvalue()
    length = len(out.getvalue())
    time.sleep(0.15)
    assert len(out.getvalue()) == length


def test_a_bar_is_enough_on_a_terminal() -> None:
    out = io.StringIO()
    with TerminalObserver(Console(file=out, force_terminal=True, width=200)) as observer:
        observer.title = "er"
        observer.begin(40, 0)
        time.sleep(0.3)
    assert " s)" not in out.getvalue()


def test_checks_say_that_they_go_on() -> None:
    out = io.StringIO()
    with checking(Console(file=out, width=200)):
        assert "checking config and data (0 s)\n" in wait_for(out, " s)\n")
