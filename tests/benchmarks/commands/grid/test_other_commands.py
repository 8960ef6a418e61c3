"""Runs of align and finetune are cells, too, with the numbers that their commands give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

# Of the machine, not of the run.
TIMED = {"recordings_per_second", "data_wait_share", "peak_memory_mib"}


def metrics(folder: str) -> dict[str, Any]:
    """Hash -> metrics of all runs below an output folder."""
    found = {}
    for file in Path(folder).glob("*/*/result.json"):
        values = json.loads(file.read_text())["metrics"]
        found[file.parent.name] = {k: v for k, v in values.items() if k not in TIMED}
    return found


@pytest.mark.slow
def test_alignment_and_fine_tuning_are_cells(medley, tuned) -> None:
    Path("grid.yaml").write_text(
        yaml.safe_dump({"base": ["align.yaml", "tune.yaml"], "output_dir": "beside"})
    )
    dry = medley("grid", "grid.yaml", "--dry-run")
    assert dry.code == 0, dry
    outcome = medley("grid", "grid.yaml", "--workers", "2")
    assert outcome.code == 0, outcome
    for command, file in (("align", "align.yaml"), ("finetune", "tune.yaml")):
        assert medley(command, file, "output_dir=alone").code == 0
        again = medley(command, file, "output_dir=beside")
        assert "done before, result reused" in again.err
    assert metrics("beside") == metrics("alone")
    assert len(metrics("alone")) >= 2
    again = medley("grid", "grid.yaml", "--workers", "2")
    assert again.err.count("done before, result reused") == len(metrics("alone"))
