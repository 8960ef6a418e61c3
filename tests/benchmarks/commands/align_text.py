"""A small config of ``medley align``, on the recordings of ``tiny``, and how to interrupt it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from multimodal.training.fit import Fit

ALIGN = """\
experiment: tones
dataset: {name: folder, root: clips, modality: speech}
encoder: {name: compact, width: 16, depth: 1, heads: 2}
objectives: [cwcl]
captions: labels
training: {epochs: 2, batch_size: 4, device: cpu, log_every: 1}
tracking: {store: none}
"""


def interrupt_once(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """The next run is interrupted after its second step, as by Ctrl-C; later ones are not."""
    step = Fit._train_on

    def stopping(self: Fit, rows: np.ndarray) -> None:
        step(self, rows)
        if self.total_steps == 2 and not (place / "stopped").exists():
            (place / "stopped").touch()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Fit, "_train_on", stopping)
