"""Runs keep their identity: config hashes, keys of caches, and folders that were begun earlier."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from torch import nn

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import command_configs, load_config, validate
from benchmarks.runs.data import open_data, read_manifest
from multimodal.encoders import EncoderConfig
from multimodal.encoders.cache import cache_key
from tests.toy import toy_data

# Of the first cell. A change here makes every finished run of the config start anew.
HASHES = {
    "align/covid_xray": "6eead7b7020b",
    "align/spoken_commands_cwcl": "e5395c67c789",
    "bench/chexpert_multi_label": "3c40016e5337",
    "bench/esc10_cwcl": "e2c702c4172e",
    "bench/fsdd_class_incremental": "c30796116650",
    "bench/fsdd_si_blurry": "92bdbf448765",
    "demo/speech": "222c9ae476fb",
    "finetune/mitbih_lora": "99194af41185",
    "zeroshot/esc50_clap": "f5100d3add13",
    "zeroshot/spoken_commands": "e8ac843f67d8",
}
OLD_RUN = Path(__file__).parent / "old_run"  # killed at step 7 of 8, its checkpoint is of step 6
OLD_HASH = "61ab93d301e0"


@pytest.mark.parametrize("name", HASHES)
def test_hashes_of_shipped_configs_stay(name: str) -> None:
    command = {"demo": "bench"}.get(name.partition("/")[0], name.partition("/")[0])
    config = load_config(Path(name), model=command_configs()[command])
    assert (config.cells() or [config])[0].hash == HASHES[name]


def test_keys_of_cached_embeddings_stay() -> None:
    """They depend on names, shapes and values, all pinned here, and on no module's place; and on
    how signals are read (``speech/2``: an earlier version's may be wrong, so its cache is left).
    """
    config = validate(RunConfig, toy_data(), source="toy")
    data = open_data(config, read_manifest(config))
    assert isinstance(config.encoder, EncoderConfig)
    parts = config.encoder.front_end(data.adapter), config.encoder.build(data.adapter)
    for part in parts:
        assert isinstance(part, nn.Module)
        for tensor in [*part.parameters(), *part.buffers()]:
            tensor.detach().fill_(1)
    settings = [config.modality.dump(), config.encoder.dump()]
    assert cache_key(data.signals, *parts, settings) == "3d8c72e3d089bf5a"


def test_a_run_that_an_earlier_version_began_goes_on(tmp_path) -> None:
    folder = tmp_path / "old" / OLD_HASH
    shutil.copytree(OLD_RUN, folder)
    data = yaml.safe_load((folder / "config.yaml").read_text())
    config = validate(RunConfig, {**data, "output_dir": str(tmp_path)}, source="old")
    assert config.folder == folder
    result = Cells(config).run_cell(0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["metrics"]["loss"] for line in lines if "loss" in line["metrics"]}
    # What the earlier version came to without being killed; it counted steps of the optimiser,
    # which are recordings now.
    last = [losses[step] for step in sorted(losses)[-2:]]
    assert last == pytest.approx([1.388689637184143, 1.3573216199874878], rel=1e-4)
    assert len(losses) == 8
    assert len(result.metrics["accuracy_matrix"]) == 2
