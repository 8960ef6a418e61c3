"""Models as MLflow loads and serves them: ``mlflow.pyfunc.load_model("models:/NAME/1")``.

A model that ``medley bench`` or ``medley finetune`` has tracked names this module as its loader.
Medley must be installed where it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands.predict.model import Model, Predicted, load_model
from multimodal.errors import UserError

COLUMNS = ("path", "file", "files")


def _load_pyfunc(path: str) -> Served:
    """What MLflow calls. On a GPU where there is one, unless MEDLEY_DEVICE=cpu."""
    return Served(load_model(Path(path), device=os.environ.get("MEDLEY_DEVICE", "auto")))


class Served:
    """``predict`` of files or of signals, as a table."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """A pandas table, a row for each row of the input.

        model_input: a table with a column ``path``, a list of paths, or signals: a list of arrays
        of canonical shape, or one array (N, ...) of them (speech: (1, T) or (T,) at the model's
        rate). Columns: label (of several labels their names, joined by "|"), error, text, and the
        probability of each class as ``p(NAME)``. UserError: neither paths nor signals.
        """
        import pandas

        found = self._predicted(model_input)
        rows = []
        for row in found:
            label = row.label if isinstance(row.label, str | None) else "|".join(row.label)
            shares = {f"p({name})": value for name, value in row.probabilities.items()}
            rows.append({"file": row.file, "label": label, "error": row.error, **shares})
            if row.text is not None:
                rows[-1]["text"] = row.text
        return pandas.DataFrame(rows)

    def _predicted(self, given: Any) -> list[Predicted]:
        if hasattr(given, "columns"):
            named = [name for name in COLUMNS if name in given.columns]
            if not named:
                columns = ", ".join(map(str, given.columns))
                raise UserError(f"the table has no column path (it has {columns}).")
            given = given[named[0]].tolist()
        if isinstance(given, str | Path):
            given = [given]
        if isinstance(given, np.ndarray) and given.dtype.kind in "OUS":
            given = given.ravel().tolist()
        if isinstance(given, Sequence) and all(isinstance(each, str | Path) for each in given):
            return self.model.predict([str(each) for each in given])
        return self.model.predict_signals(list(given))
