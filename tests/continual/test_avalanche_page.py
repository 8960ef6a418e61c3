"""What docs/avalanche.md says: its examples run, its table is that of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from continual.plugins.known import REFUSED, WORKS

PAGE = (Path(__file__).parents[2] / "docs" / "avalanche.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_table_is_that_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows == {**WORKS, **{name: f"refused: {why}" for name, why in REFUSED.items()}}


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) == 3
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/avalanche.md", "exec"), names)
    assert 0 <= names["metrics"]["Top1_Acc_Stream/eval_phase/test_stream"] <= 1
    assert names["strategy"].position.experience == len(names["stream"]) == 2
    importance = next(p for p in names["strategy"].plugins if hasattr(p, "importance")).importance
    assert all(found.data.isfinite().all() for found in importance.values())
    assert any(found.data.any() for found in importance.values())
    capsys.readouterr()
