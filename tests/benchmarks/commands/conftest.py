"""A small experiment of ``medley align``, ready to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.commands.align_text import ALIGN


@pytest.fixture
def tones(tiny) -> Path:
    """The folder of ``tiny`` with ``align.yaml`` too."""
    (tiny / "align.yaml").write_text(ALIGN)
    return tiny
