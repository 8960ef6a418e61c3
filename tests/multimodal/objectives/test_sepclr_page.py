"""The example of docs/objectives.md, as it stands there."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from tests.docs_page import FENCE

PAGE = Path(__file__).parents[3] / "docs" / "objectives.md"


def test_the_salient_head_tells_the_ill_and_the_common_one_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = (text for kind, text in FENCE.findall(PAGE.read_text("utf-8")) if kind == "python")
    assert len(block.splitlines()) < 60
    (tmp_path / "example.py").write_text(block)
    with torch.random.fork_rng():
        accuracy = runpy.run_path(str(tmp_path / "example.py"))["accuracy"]
    assert capsys.readouterr().out == f"{accuracy}\n"
    assert accuracy["salient"] > 0.7
    assert accuracy["common"] < accuracy["salient"] - 0.05
