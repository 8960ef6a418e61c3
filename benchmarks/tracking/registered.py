"""MLflow's model registry: a run's model as a version of a registered name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.tracking.state import State, recorded_uri
from benchmarks.tracking.store import blaming, connect
from multimodal.errors import UserError


def register(folder: Path, name: str) -> str:
    """The version under which the last model of the run in ``folder`` stands; made once.

    UserError: the run was not tracked, the store has no model of it, or it cannot be reached.
    """
    state = State.known(folder)
    if state is None or not any(model["id"] for model in state.models.values()):
        raise UserError(
            f"{folder}: the store has no model of this run, so nothing can be registered as "
            f"{name!r}; send it with `medley report --resend {folder}`, then repeat the command."
        )
    uri = recorded_uri(folder, state, folder.parent.parent)
    with blaming(uri, "try again later"):
        return register_model(connect(uri), state, name)


def register_model(client: Any, state: State, name: str) -> str:
    """The same of a run's state, by a client. MLflow's errors pass."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = client.search_model_versions(f"name = '{name}' AND run_id = '{state.run_id}'")
    if known:
        return str(known[0].version)
    tags = {k: v for k, v in state.tags.items() if k in ("medley.learner", "medley.seed")}
    last = [model["id"] for model in state.models.values() if model["id"]][-1]
    source = client.get_logged_model(last).artifact_location
    made = client.create_model_version(name, source, state.run_id, tags=tags)
    return str(made.version)
