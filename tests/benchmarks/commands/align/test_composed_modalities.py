"""Scenes of every modality train and are scored by one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.align.command import run_align
from benchmarks.commands.align.config import AlignConfig
from benchmarks.results.files import find_results
from tests.benchmarks.commands.bench.test_cwcl_modalities import DATASETS, RATES

# What small synthetic sets need: short events, patients of one rhythm each.
COMPOSERS: dict[str, dict[str, Any]] = {
    "audio": {"snippet_seconds": [0.05, 1.0], "expressions": {"A+B": 1.0, "A*B": 1.0}},
    "speech": {"snippet_seconds": [0.05, 1.0], "sources": "any", "expressions": {"A+B": 1.0}},
    "ecg": {"sources": "any", "expressions": {"A+B": 1.0}},
    "xray": {"expressions": {"A+B": 1.0}},
    "video": {"snippet_seconds": [0.1, 4.0], "expressions": {"A+B": 1.0, "A*B": 1.0}},
}


@pytest.mark.parametrize("modality", COMPOSERS)
def test_scenes_of_every_modality(modality: str, text: dict[str, Any], tmp_path: Path) -> None:
    if modality == "speech":
        pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    composer = {"name": modality, **COMPOSERS[modality]}
    config = {
        "experiment": "scenes",
        "dataset": DATASETS[modality],
        "modality": {"name": modality, **RATES.get(modality, {})},
        "encoder": {"name": "compact", "width": 8, "depth": 1, "heads": 2},
        "text": text,
        "objectives": [{"name": "compa_modular", "negative_audio": 1}],
        "compose": {"composer": composer, "scenes": 6, "items": 4, "triplets": 0.0},
        "training": {"epochs": 1, "batch_size": 3, "threads": 1, "device": "cpu"},
        "seeds": [1],
        "output_dir": str(tmp_path),
        "tracking": {"store": "none"},
    }
    file = tmp_path / "scenes.yaml"
    file.write_text(AlignConfig.parse(json.loads(json.dumps(config))).to_yaml())
    run_align(file, [])
    (result,) = find_results(tmp_path / "scenes")
    assert result.metrics["num_items"] == 4
    assert result.metrics["group_chance"] == pytest.approx(1 / 6)
