"""What a user runs: the command line, configs, runs, tracking and reports.

``load_model(run)`` opens a trained model from Python, see ``commands.predict.model.load_model``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    # Looked up only when it is asked for: importing Medley imports no PyTorch.
    if name == "load_model":
        return getattr(import_module("benchmarks.commands.predict.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
