"""What is kept of a run that failed tells no credentials."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.commands.bench.config import RunConfig
from benchmarks.results.failures import FAILURE_FILE
from benchmarks.runs.attempts import attempt, keep_death
from multimodal.errors import UserError
from tests.benchmarks.tracking_uris import SECRET, URIS
from tests.toy import toy_data


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("kind", [UserError, KeyError, ConnectionError])
def test_no_secret_of_a_failure_is_kept_or_told(tmp_path, uri: str, kind: Any) -> None:
    config = RunConfig.parse(toy_data(output_dir=str(tmp_path), tracking={"uri": uri}))

    def run() -> Any:
        try:
            raise ValueError(f"API request to {uri} failed")
        except ValueError as error:
            raise kind(f"{uri} does not answer") from error

    outcome = attempt(config, run)
    kept = (config.folder / FAILURE_FILE).read_text()
    assert outcome["state"] == "failed"
    assert "does not answer" in kept
    assert SECRET not in kept
    assert SECRET not in repr(outcome)
    keep_death(config, f"died at {uri}", f"trace of {uri}")
    assert SECRET not in (config.folder / FAILURE_FILE).read_text()
