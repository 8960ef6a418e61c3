"""Every YAML file below configs/ is valid and runs on a toy dataset (always of speech)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.config import RunConfig, validate
from benchmarks.grid import Grid
from benchmarks.settings import read_yaml
from tests.toy import ToyConfig

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(FOLDER)))
def test_config_is_valid_and_runs_for_a_few_steps(path: Path, tmp_path) -> None:
    data = read_yaml(path)
    config = validate(RunConfig, data, source=str(path))
    assert config.experiment == ("demo" if path.parent.name == "demo" else path.stem)
    domain = config.scenario.registered_name == "domain_incremental"
    classes = max(4, getattr(config.scenario, "num_experiences", None) or 0)
    toy = ToyConfig(num_classes=classes, train=4, test=4, shared_groups=domain)
    changes = {
        "dataset": toy.dump(),
        "modality": "speech",
        "seeds": [config.seeds[0]],
        "quick": True,
        "output_dir": str(tmp_path),
        "tracking": {"store": "none"},
        "encoder": {"name": "compact", "width": 16, "depth": 1, "heads": 2},
    }
    grid = Grid(validate(RunConfig, {**data, **changes}, source=str(path)))
    for number, cell in enumerate(grid.cells):
        result = grid.run_cell(number)
        assert result.quick
        assert result.learner == cell.learners[0].registered_name
        assert 0 <= result.metrics["average_accuracy"] <= 1
        assert (cell.folder / "report.html").exists()
