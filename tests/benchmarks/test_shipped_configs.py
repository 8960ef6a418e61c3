"""Every YAML file below configs/ is valid and runs on a toy dataset (always of speech)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.align.command import run_align
from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.finetune.command import run_finetune
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.zeroshot.command import run_zeroshot
from benchmarks.commands.zeroshot.config import ZeroShotConfig
from benchmarks.commands.zeroshot.models import MODELS
from benchmarks.config.base import CommandConfig
from benchmarks.config.loading import validate
from benchmarks.config.settings import read_yaml
from benchmarks.results.files import find_results
from continual.learner import LEARNERS
from tests.toy import ToyConfig

FOLDER = Path(__file__).parents[2] / "configs"
STREAMS = sorted([*FOLDER.glob("bench/*.yaml"), *FOLDER.glob("demo/*.yaml")])
ALIGNED = sorted(FOLDER.glob("align/*.yaml"))
ZERO_SHOT = sorted(FOLDER.glob("zeroshot/*.yaml"))
TUNED = sorted(FOLDER.glob("finetune/*.yaml"))
GRIDS = sorted(FOLDER.glob("grid/*.yaml"))  # see commands/grid/test_shipped_grids.py
SMALL = {"name": "compact", "width": 16, "depth": 1, "heads": 2}
DECODER = {"layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "longest": 12, "beam": 2}
SIZES = {"num_classes": 4, "train_per_class": 3, "test_per_class": 2}
SEVERAL = {
    "dataset": {
        "name": "several",
        "parts": [{"name": f"synthetic_{name}", **SIZES} for name in ("xray", "video")],
    },
    "modality": {"name": "several", "parts": ["xray", "video"]},
    "encoder": {"name": "several", "default": SMALL, "width": 16},
}
# Of tones, which last a tenth of a second.
SHORT = {"snippet_seconds": [0.02, 1.0], "gap": [0.0, 0.01], "fade": 0.002, "sources": "any"}
COMPOSE = {"composer": {"name": "speech", **SHORT}, "scenes": 8, "items": 4}
PATIENTS = {"name": "synthetic_patients", "train_patients": 12, "test_patients": 12}
NAMES = ["tone_0", "tone_1", "tone_2", "tone_3"]


def rows_of(path: Path) -> dict[str, int]:
    """The learners of a config, each with its kind of stream, and where they stand."""
    data = read_yaml(path)
    scenario = validate(RunConfig, data, source=str(path)).scenario.registered_name
    learners = [learner(each) for each in data["learners"]]
    return {f"{scenario} {json.dumps(each, sort_keys=True)}": i for i, each in enumerate(learners)}


def learner(data: Any) -> dict[str, Any]:
    """With a small decoder, if it has one. Tones have no phrases of their own."""
    named = {"name": data} if isinstance(data, str) else data
    decoder = "decoder" in LEARNERS.config(named["name"]).model_fields
    kept = {key: value for key, value in named.items() if key != "phrases"}
    return {**kept, "decoder": DECODER} if decoder else kept


@cache
def trained_here() -> dict[Path, list[int]]:
    """Of each config the learners that no config before it trains in such a stream, or its first.

    Many configs have the same rows on other data; all are built, and each trains once.
    """
    found, met = {}, set()
    for path in STREAMS:
        rows = rows_of(path)
        found[path] = [place for row, place in rows.items() if row not in met] or [0]
        met |= rows.keys()
    return found


def test_there_is_no_other_config() -> None:
    assert {*STREAMS, *ALIGNED, *ZERO_SHOT, *TUNED, *GRIDS} == set(FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize(
    ("model", "paths"),
    [
        (RunConfig, STREAMS),
        (AlignConfig, ALIGNED),
        (ZeroShotConfig, ZERO_SHOT),
        (FinetuneConfig, TUNED),
    ],
)
def test_what_a_run_folder_keeps_of_a_config_is_read_back(
    model: type[CommandConfig], paths: list[Path]
) -> None:
    """A run goes on, and its model is opened, by the config.yaml that its folder holds."""
    met = set()
    for path in paths:
        config = validate(model, read_yaml(path), source=str(path))
        kept = model.parse(yaml.safe_load(config.to_yaml()))
        assert kept == config, path
        assert kept.hash == config.hash, path
        for cell in config.cells() if isinstance(config, RunConfig) else ():
            row = repr(cell.learners)
            if row not in met:  # many configs have the same rows
                met.add(row)
                assert RunConfig.parse(yaml.safe_load(cell.to_yaml())).hash == cell.hash, path


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def small(encoder: dict[str, Any]) -> dict[str, Any]:
    """One that is frozen, or adapted by LoRA, where the given one is."""
    if encoder.get("name") == "lora":
        return {"name": "lora", "base": SMALL, "rank": 2}
    return SMALL | ({"train": "none"} if encoder.get("train") == "none" else {})


@pytest.mark.parametrize("path", STREAMS, ids=named)
def test_config_is_valid_and_runs_for_a_few_steps(path: Path, tmp_path) -> None:
    data = read_yaml(path)
    config = validate(RunConfig, data, source=str(path))
    assert config.experiment == ("demo" if path.parent.name == "demo" else path.stem)
    domain = config.scenario.registered_name == "domain_incremental"
    classes = max(4, getattr(config.scenario, "num_experiences", None) or 0)
    toy = ToyConfig(num_classes=classes, train=4, test=4, shared_groups=domain)
    learners = [learner(each) for each in data["learners"]]
    changes = {
        "dataset": toy.dump(),
        "modality": "speech",
        "learners": learners,
        "seeds": [config.seeds[0]],
        "quick": True,
        "output_dir": str(tmp_path),
        "tracking": {"store": "none"},
        "encoder": small(data.get("encoder", {})),
    }
    if config.warm_up is not None:
        changes["warm_up"] = {"dataset": toy.dump(), "epochs": 1}
    if config.scenario.registered_name == "si_blurry":
        changes["scenario"] = {**data["scenario"], "num_tasks": 2, "eval_period": 2}
    elif config.scenario.registered_name == "modality_incremental":
        changes |= SEVERAL
    elif "group_classes_by" in data["scenario"]:  # tones have no scenarios
        changes["scenario"] = {k: v for k, v in data["scenario"].items() if k != "group_classes_by"}
    grid = Cells(validate(RunConfig, {**data, **changes}, source=str(path)))
    assert len(grid.cells) == len(learners)
    for number in trained_here()[path]:
        cell, result = grid.cells[number], grid.run_cell(number)
        assert result.quick
        assert result.learner == cell.learners[0].registered_name
        accuracy = "a_last" if result.stream else "average_accuracy"
        assert 0 <= result.metrics[accuracy] <= 1
        assert (cell.folder / "report.html").exists()


def objectives_of(path: Path) -> list[Any]:
    """The objectives of a config that are trained: files that compare the same ones take turns."""
    rows, alike = read_yaml(path)["objectives"], [p for p in ALIGNED if "objectives_" in p.stem]
    return rows[alike.index(path) :: len(alike)] if path in alike else rows


def align(path: Path, folder: Path, **changes: Any) -> None:
    """A config of configs/align on tones, or on few patients, for one epoch."""
    data = read_yaml(path)
    places = {"output_dir": str(folder), "tracking": {"store": "none"}}
    data["objectives"] = objectives_of(path)
    if "views" in data:
        for view in data["views"].values():
            view["encoder"] = SMALL | {"patch": 16}
        run = {"dataset": PATIENTS, "seeds": [1], "quick": True}
        file = folder / path.name
        file.write_text(AlignConfig.parse({**data, **places, **run}).to_yaml())
        return run_align(file, [])
    data["prompts"] = {k: v for k, v in data.get("prompts", {}).items() if k != "phrases"}
    if "classes" in data:
        data["classes"] = NAMES[:2]
    encoder = small(data["encoder"])
    toy = {"dataset": ToyConfig().dump(), "modality": "speech", "encoder": encoder}
    # Tones have no texts of their own.
    run = {"captions": "labels", "seeds": [1], "quick": True}
    data.pop("init", None)
    if "compose" in data:  # scenes have captions of their own
        run |= {"captions": "text", "compose": COMPOSE}
    if "batch" in data["training"]:
        run["training"] = {**data["training"], "batch_size": 8, "batch": {"meanings": 2}}
    file = folder / path.name
    file.write_text(AlignConfig.parse({**data, **toy, **places, **run, **changes}).to_yaml())
    run_align(file, [])


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A folder of runs that holds those of a config of configs/align; each is trained once."""
    folder = tmp_path_factory.mktemp("aligned")

    def runs(path: Path) -> Path:
        if not (folder / path.stem).exists():
            (folder / path.stem).mkdir()
            align(path, folder / path.stem)
        return folder / path.stem

    return runs


@pytest.mark.xdist_group("aligned")  # in one process, which trains each config once
@pytest.mark.parametrize("path", ALIGNED, ids=named)
def test_alignments_train(path: Path, aligned: Callable[[Path], Path]) -> None:
    config = validate(AlignConfig, read_yaml(path), source=str(path))
    results = find_results(aligned(path) / config.experiment)
    assert len(results) == len(objectives_of(path)) <= len(config.objectives)
    score = "macro_auroc" if config.views else "zero_shot_top1"
    assert all(0 <= r.metrics[score] <= 1 for r in results)
    assert all(r.quick and r.command == "align" for r in results)


@pytest.mark.parametrize("path", TUNED, ids=named)
def test_fine_tuning_runs(path: Path, tmp_path) -> None:
    data = read_yaml(path)
    config = validate(FinetuneConfig, data, source=str(path))
    assert config.experiment == path.stem
    toy = {"dataset": ToyConfig(train=4).dump(), "modality": "speech", "encoder": SMALL}
    run = {"seeds": [1], "quick": True, "evaluate_also": [ToyConfig(train=4).dump()]}
    places = {"output_dir": str(tmp_path), "tracking": {"store": "none"}}
    if config.warm_up is not None:
        run["warm_up"] = {"dataset": ToyConfig(train=4).dump(), "epochs": 1}
    file = tmp_path / path.name
    file.write_text(FinetuneConfig.parse({**data, **toy, **places, **run}).to_yaml())
    run_finetune(file, [])
    results = find_results(tmp_path / config.experiment)
    assert len(results) == len(config.methods)
    assert all(0 <= r.metrics["accuracy"] <= 1 for r in results)
    assert all(r.quick and r.command == "finetune" for r in results)


@pytest.mark.xdist_group("aligned")
@pytest.mark.parametrize("path", ZERO_SHOT, ids=named)
def test_zero_shot_configs_are_valid_and_those_of_our_models_run(
    path: Path, aligned: Callable[[Path], Path], tmp_path
) -> None:
    data = read_yaml(path)
    config = validate(ZeroShotConfig, data, source=str(path))
    assert config.experiment == f"{path.stem}_zero_shot"
    if config.model.registered_name != "aligned":
        return  # of a checkpoint: tested with tiny ones in commands/zeroshot
    folders = {read_yaml(p)["experiment"]: p for p in ALIGNED}
    named = data["model"]["experiment"]
    for experiment in [named] if isinstance(named, str) else named:
        assert experiment in folders
        data["model"] = {**data["model"], "experiment": experiment}
    runs = aligned(folders[data["model"]["experiment"]])
    data["prompts"] = {k: v for k, v in data.get("prompts", {}).items() if k != "phrases"}
    if "compose" in data:
        data["compose"] = COMPOSE
    if "classes" in data:
        data["classes"] = NAMES[2:]
    toy = {"dataset": ToyConfig().dump(), "split": "test", "quick": True}
    places = {"output_dir": str(runs), "tracking": {"store": "none"}}
    file = tmp_path / "zero_shot.yaml"
    file.write_text(ZeroShotConfig.parse({**data, **toy, **places}).to_yaml())
    run_zeroshot(file, [])
    results = find_results(runs / config.experiment)
    assert all(r.command == "zeroshot" for r in results)
    assert MODELS.names() == ["aligned", "clap", "transcribed"]
