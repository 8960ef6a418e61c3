"""What a frozen encoder makes of recordings is made once for all cells, in whichever process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.commands.align import command as align
from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.bench import one as bench
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.finetune import command as finetune
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.config.loading import load_config
from multimodal.encoders.cache import EmbeddingCache
from tests.benchmarks.commands.grid.test_other_commands import TIMED
from tests.toy import toy_data

FROZEN = {"name": "compact", "width": 16, "depth": 1, "heads": 2, "train": "none"}
COMMON = {
    "dataset": {"name": "toy", "train": 6},
    "modality": "speech",
    "encoder": FROZEN,
    "seeds": [1],
    "training": {"epochs": 1, "batch_size": 8, "device": "cpu"},
}
ALIGN = {**COMMON, "captions": "labels", "objectives": ["clip", "siglip"]}
TUNE = {
    **COMMON,
    "encoder": {**FROZEN, "train": "all"},
    "methods": [{"name": "head"}, {"name": "head", "learning_rate": 0.01}],
}
BENCH = toy_data(
    encoder=FROZEN,
    learners=["linear_probe", {"name": "er", "memory_size": 8}],
    scenario={"name": "si_blurry", "num_tasks": 2},
    seeds=[1],
)


@pytest.mark.parametrize(
    ("run", "model", "data"),
    [
        (bench.run_one, RunConfig, BENCH),
        (align.run_one, AlignConfig, ALIGN),
        (finetune.run_one, FinetuneConfig, TUNE),
    ],
    ids=["bench", "align", "finetune"],
)
def test_a_second_cell_embeds_nothing(
    run: Any, model: Any, data: dict[str, Any], text, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**data, "text": text} if model is AlignConfig else data
    config = {**config, "experiment": "shared", "tracking": {"store": "none"}}
    Path("one.yaml").write_text(yaml.safe_dump(config))
    embedded = list[int]()
    embed = EmbeddingCache._embed

    def counted(self: EmbeddingCache, block: int, advance: Any) -> Any:
        rows, found = embed(self, block, advance)
        embedded.append(len(np.unique(rows)))
        return rows, found

    monkeypatch.setattr(EmbeddingCache, "_embed", counted)
    first, second = load_config(Path("one.yaml"), [], model=model).cells()
    in_another_process()
    run(first, Quiet())
    assert embedded
    embedded.clear()
    in_another_process()
    run(second, Quiet())
    assert embedded == []


def test_what_a_process_keeps_changes_no_number(text, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**ALIGN, "text": text, "experiment": "shared", "tracking": {"store": "none"}}
    Path("one.yaml").write_text(yaml.safe_dump(config))
    found = []
    for folder in ("kept", "alone"):
        cells = load_config(Path("one.yaml"), [f"output_dir={folder}"], model=AlignConfig).cells()
        in_another_process()
        for cell in cells:
            if folder == "alone":
                in_another_process()
            result, before = align.run_one(cell, Quiet())  # pyright: ignore[reportArgumentType]
            assert not before
            found.append({k: v for k, v in result.metrics.items() if k not in TIMED})
    assert found[:2] == found[2:]
    assert found[0] != found[1]


def test_each_start_has_its_own_text_encoder(text, tmp_path, monkeypatch) -> None:
    """Runs that trained it have left another one for each seed; it is frozen from there on."""
    monkeypatch.chdir(tmp_path)
    common = {**ALIGN, "seeds": [1, 2], "objectives": ["clip"], "tracking": {"store": "none"}}
    training = {**COMMON["training"], "learning_rate": 0.05}
    first = {"experiment": "first", "text": {**text, "train": "all"}, "training": training}
    second = {"experiment": "second", "text": text, "init": "first"}
    configs = []
    for name, own in (("first", first), ("second", second)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**common, **own}))
        configs.append(load_config(Path(f"{name}.yaml"), [], model=AlignConfig))
    for cell in configs[0].cells():
        align.run_one(cell, Quiet())  # pyright: ignore[reportArgumentType]
    data, _ = align._checked(configs[1], fresh=True)
    said = [align.AlignRun(c, data).model.encode_texts(["yes"]) for c in configs[1].cells()]
    assert not torch.allclose(*said)


def test_what_is_kept_stays_on_its_device(monkeypatch) -> None:
    monkeypatch.setattr(align, "pick_device", torch.device)
    configs = [
        AlignConfig.parse({**ALIGN, "experiment": "x", "training": {**COMMON["training"], **own}})
        for own in ({}, {"learning_rate": 0.5}, {"device": "cuda"})
    ]
    first, other_rate, other_device = map(align._key, configs)
    assert first == other_rate != other_device


def test_a_quick_cell_leaves_its_part_of_the_data_to_quick_ones_alone(monkeypatch) -> None:
    monkeypatch.setattr(bench, "shared_data", lambda config: f"quick={config.quick}")
    in_another_process()
    configs = [RunConfig.parse({**BENCH, "quick": quick}) for quick in (True, False)]
    kept = [bench._data(config) for config in configs]
    in_another_process()
    assert kept == ["quick=True", "quick=False"]


def in_another_process() -> None:
    """Forget what cells have read."""
    bench._kept.clear()
    align._kept.clear()


class Quiet:
    """Hears everything and says nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None
