"""MLflow logger for Avalanche's ``EvaluationPlugin`` (Avalanche 0.6.0 has none)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import AlternativeValues
from avalanche.logging import BaseLogger
from torch import Tensor

from benchmarks.tracking.points import Point
from benchmarks.tracking.state import first_line, store_uri
from benchmarks.tracking.store import connect, open_run, send_points
from benchmarks.tracking.tracker import PATIENCE
from multimodal.credentials import shown

__all__ = ["MLflowLogger"]


class MLflowLogger(BaseLogger, SupervisedPlugin, supports_distributed=True):
    """Sends every scalar metric to one MLflow run, at step = Avalanche's ``x_plot``.

    uri: of the MLflow store. run_id: a run to go on with; without it a new run of ``experiment``
    is made, and ``close()`` ends it as FINISHED. Figures, images, histograms and tensors of more
    than one element are skipped. Values are sent in batches after each training experience, after
    each evaluation and on ``close()``; while the store cannot be reached they wait, and training
    goes on. Pickling sends what waits and keeps ``uri``, without
    credentials (MLFLOW_TRACKING_URI has them), and ``run_id`` only.

    Raises UserError if a new run is wanted and the store cannot be reached, RuntimeError
    (Avalanche's) outside the main process.
    """

    def __init__(self, uri: str, *, run_id: str | None = None, experiment: str = "avalanche"):
        super().__init__()
        self.uri = uri
        self.run_id = run_id or open_run(uri, experiment=experiment)
        self._owned = run_id is None
        self._points: list[Point] = []
        self._warned = False
        self._retry_at = 0.0

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Buffer one value; anything that is not a single number is ignored."""
        if isinstance(value, AlternativeValues):
            value = value.best_supported_value(float, int, Tensor)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, (float, int)):
            now = time.time_ns() // 1_000_000
            self._points.append(Point(name, float(value), int(x_plot), now))

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.flush()

    def after_eval(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.flush()

    def flush(self) -> bool:
        """Send what is buffered; False (and one warning) if the store cannot be reached.

        After a failure the store is left alone for 30 s, so that it cannot slow the training.
        """
        if time.monotonic() < self._retry_at:
            return False
        try:
            send_points(connect(self.uri), self.run_id, self._points)
        except Exception as error:  # a lost store must not end a training
            if not self._warned:
                print(
                    f"medley: metrics wait, MLflow failed: {first_line(error, self.uri)}",
                    file=sys.stderr,
                )
            self._warned = True
            self._retry_at = time.monotonic() + PATIENCE
            return False
        self._points = []
        return True

    def close(self) -> None:
        """Send what is buffered and end the run, if this logger made it."""
        self._retry_at = 0.0
        if self.flush() and self._owned:
            connect(self.uri).set_terminated(self.run_id)

    def __getstate__(self) -> dict[str, str]:
        self.flush()
        return {"uri": shown(self.uri), "run_id": self.run_id}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(store_uri(state["uri"], Path()), run_id=state["run_id"])
