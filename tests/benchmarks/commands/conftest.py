"""Small experiments of ``medley align`` and ``medley finetune``, ready to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.commands.align_text import ALIGN
from tests.benchmarks.commands.finetune_text import FINETUNE


@pytest.fixture
def tones(tiny) -> Path:
    """The folder of ``tiny`` with ``align.yaml`` too."""
    (tiny / "align.yaml").write_text(ALIGN)
    return tiny


@pytest.fixture
def tuned(tones) -> Path:
    """The folder of ``tones`` with ``tune.yaml`` too."""
    (tones / "tune.yaml").write_text(FINETUNE)
    return tones
