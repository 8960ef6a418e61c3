"""An MLflow store: connecting to it, its experiments, sending points; its failures in one line."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.config.base import TrackingConfig
from benchmarks.tracking.birth import ensure_born
from benchmarks.tracking.points import MAX_METRICS, Point, metric_name
from benchmarks.tracking.state import first_line, store_uri
from multimodal.credentials import shown
from multimodal.errors import UserError

KIND = {"mlflow.experimentKind": "custom_model_development"}  # its page opens on training runs
# Talk of migrations, and lines that repeat a store's address.
QUIET = ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics", "urllib3.connectionpool")


def connect(uri: str, *, timeout: int = 5) -> Any:
    """MLflow's client. Sets, where the user has not: HTTP timeout in seconds, one retry, no
    telemetry. Keeps links and the talk of database migrations off the terminal. UserError for an
    SQLite file that cannot be used; one that does not exist is made whole (``ensure_born``)."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ensure_born(uri)
    return MlflowClient(tracking_uri=uri)


def check_store(config: TrackingConfig, output_dir: Path) -> None:
    """UserError if tracking is on and the store cannot be reached."""
    if config.store == "mlflow":
        uri = store_uri(config.uri, output_dir)
        with blaming(uri, "fix tracking.uri, or set tracking.store=none"):
            connect(uri).search_experiments(max_results=1)


def open_run(uri: str, *, experiment: str) -> str:
    """A new run's id. UserError if the store cannot be reached."""
    with blaming(uri, "give another uri"):
        client = connect(uri)
        run = client.create_run(experiment_id(client, experiment, uri, None))
        return run.info.run_id


def send_points(
    client: Any,
    run_id: str,
    points: Sequence[Point],
    *,
    tags: dict[str, str] | None = None,
    model_id: str | None = None,
) -> None:
    """Send metric values in batches of at most 1000, ``tags`` with the last one.

    Sending a point again changes nothing: MLflow's key is (name, value, step, time).
    """
    from mlflow.entities import Metric, RunTag

    metrics = [
        Metric(metric_name(p.name), p.value, p.time, p.step, model_id=model_id) for p in points
    ]
    run_tags = [RunTag(k, v) for k, v in (tags or {}).items()]
    for start in range(0, max(len(metrics), 1), MAX_METRICS):
        last = start + MAX_METRICS >= len(metrics)
        client.log_batch(
            run_id, metrics[start : start + MAX_METRICS], tags=run_tags if last else ()
        )


@contextlib.contextmanager
def blaming(uri: str, remedy: str) -> Iterator[None]:
    """Whatever fails inside becomes a UserError that names the store and the remedy."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow store {shown(uri)} failed ({first_line(error, uri)}); {remedy}."
        ) from error


def experiment_id(client: Any, name: str, uri: str, place: str | None) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=place, tags=KIND)
        except MlflowException:  # another process may have made it just now
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"MLflow experiment {name!r} was deleted in {shown(uri)}; restore it with `mlflow "
            f"experiments restore -x {experiment.experiment_id}`, or change `experiment`."
        )
    return experiment.experiment_id
