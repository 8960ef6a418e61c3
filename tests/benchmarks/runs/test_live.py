"""What people see of many runs, with a terminal and without."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.commands.bench.config import RunConfig
from benchmarks.launchers import Event
from benchmarks.runs import live as live_module
from benchmarks.runs.live import Live, duration
from benchmarks.runs.many import Cell, Ended
from tests.toy import toy_data


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """``clock[0]``: seconds that a monotonic clock shows."""
    shown = [100.0]
    monkeypatch.setattr(live_module.time, "monotonic", lambda: shown[0])
    return shown


def cell(seed: int) -> Cell:
    return Cell(RunConfig.parse(toy_data(seeds=[seed])), f"toy seed {seed}")


def live(ended: dict[str, Ended], *, terminal: bool = False, **more: Any) -> tuple[Live, Any]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    return Live(console, ended, total=4, workers=2, **more), out


def test_lines_tell_of_every_end_and_how_much_is_left(clock) -> None:
    ended: dict[str, Ended] = {"before": Ended("reused")}
    told, out = live(ended, expected=30.0)
    one, two = cell(1), cell(2)
    assert told.seconds_left() == 45.0  # three of 30 s by two workers
    told(Event("begun", one.key, "worker 1"), one)
    told(Event("told", one.key, "worker 1", {"total": 40, "done": 10}), one)
    clock[0] += 12
    ended[one.key] = Ended("done")
    told(Event("done", one.key, "worker 1", {"state": "done"}), one)
    told(Event("begun", two.key, "worker 1"), two)
    told(Event("died", two.key, "worker 1", {"reason": "killed", "tried_again": True}), two)
    told(Event("begun", two.key, "worker 2"), two)
    told(Event("waits", two.key, "worker 2", {"reason": "held"}), two)
    told(Event("waits", two.key, "worker 2", {"reason": "held"}), two)
    told(Event("said", "", "worker 2", {"line": "[a warning]"}), None)
    ended[two.key] = Ended("failed", "first line\nsecond line")
    told(Event("done", two.key, "worker 2", {"state": "failed"}), two)
    assert out.getvalue().splitlines() == [
        "[2/4] toy seed 1: done, 12 s",
        "toy seed 2: killed; it is tried again",
        "toy seed 2: waits (held)",
        "[a warning]",
        "[3/4] toy seed 2: failed: first line",
    ]
    assert told.seconds_left() == 6.0  # two ended in 12 s, one is open
    assert told.summary() == "2 of 4 done, 1 failed, about 6 s left"


def test_without_a_terminal_it_is_never_silent_for_long(clock) -> None:
    told, out = live({})
    with told:
        told(Event("begun", cell(1).key, "worker 1"), cell(1))
        told(Event("told", cell(1).key, "worker 1", {"total": 8, "done": 2}), cell(1))
        for _ in range(130):
            clock[0] += 1.0
            told(None, None)
    lines = out.getvalue().splitlines()
    assert lines == ["0 of 4 done, running: toy seed 1 25%"] * 6  # one in 20 s


def test_a_terminal_shows_a_table_of_what_runs(clock) -> None:
    told, out = live({}, terminal=True)
    told(Event("begun", cell(1).key, "worker 1"), cell(1))
    told(Event("told", cell(1).key, "worker 1", {"total": 8, "done": 2}), cell(1))
    clock[0] += 61
    told(None, None)
    assert out.getvalue() == ""  # the table is drawn, not printed line by line
    told.console.print(told._table())
    assert "worker 1" in out.getvalue()
    assert "25%" in out.getvalue()
    assert "61 s" in out.getvalue()


def test_durations_in_words() -> None:
    assert [duration(s) for s in (0.4, 89, 90, 600, 5399, 5400, 86_400)] == [
        "0 s",
        "89 s",
        "2 min",
        "10 min",
        "90 min",
        "1.5 h",
        "24.0 h",
    ]
