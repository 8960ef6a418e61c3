"""The benchmark of scenes and of objectives runs, and prints the figures that scripts read."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.speed import compose


def test_quick_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["compose", "--quick"])
    compose.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures) == {
        *("scenes_per_second", "hard_negatives_over_plain", "modular_over_plain"),
        "modular_over_plain_each",
    }
    assert all(value > 0 for value in figures.values())
