from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.base import CommandConfig
from benchmarks.config.loading import command_configs, load_config, validate
from benchmarks.config.settings import (
    apply_override,
    find_config,
    find_configs,
    parse_yaml,
    read_yaml,
)
from multimodal.errors import UserError
from tests.toy import toy_data


def config(**changes: object) -> RunConfig:
    return validate(RunConfig, toy_data(**changes), source="toy.yaml")


def test_all_problems_are_reported_at_once_with_valid_choices() -> None:
    data = toy_data(
        learners=["finetun", {"name": "replay", "memory_sice": 3, "policy": "fifo"}],
        training={"epochs": "five", "batch_size": 0},
        dataset="nodata",
        colour=1,
    )
    with pytest.raises(UserError) as caught:
        validate(RunConfig, data, source="my.yaml")
    text = str(caught.value)
    lines = text.splitlines()
    assert len(lines) == 7, text
    assert "learners.0: unknown learner 'finetun'; did you mean 'finetune'? Valid: clib" in text
    assert "learners.1.memory_sice: unknown key; did you mean 'memory_size'?" in text
    assert "learners.1.policy: Input should be 'reservoir', 'class_balanced' or 'herding'" in text
    assert "training.epochs: Input should be a valid integer (got 'five')" in text
    assert "training.batch_size" in text
    assert "dataset: unknown dataset 'nodata'" in text
    assert "colour: unknown key" in text
    assert all(line.startswith("my.yaml: ") for line in lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E3", 1000.0), ("-2e+1", -20.0), ("1.5e-3", 0.0015), (".5e1", 5.0),
     ("1e", "1e"), ("e4", "e4"), ("5", 5), ("0.1", 0.1), ("'1e-4'", "1e-4"), ("v0.01", "v0.01")],
)  # fmt: skip
def test_numbers_in_yaml(text: str, value: object) -> None:
    read = parse_yaml(f"x: {text}")["x"]
    assert read == value
    assert type(read) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_python_float_is_read_back(value: float) -> None:
    assert parse_yaml(f"x: {value!r}")["x"] == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' stands twice"),
        ("a: {x: 1, x: 2}", "key 'x' stands twice"),
        ("- 1", "expected a mapping of settings, found list"),
        ("a: [1", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_yaml_names_the_file_and_the_line(tmp_path, text: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_overrides_reach_into_lists_and_names() -> None:
    data = toy_data(learners=["finetune", "replay"])
    for override in (
        "training.epochs=9",
        "training.learning_rate=1e-4",
        "learners.1.memory_size=7",
        "dataset.num_classes=6",
        "seeds=[1,2]",
        "experiment=a=b",
        "data_root=",
    ):
        apply_override(data, override)
    assert data["training"]["epochs"] == 9  # type: ignore[index]
    assert data["training"]["learning_rate"] == 1e-4  # type: ignore[index]
    assert data["learners"] == ["finetune", {"name": "replay", "memory_size": 7}]
    assert data["dataset"] == {"name": "toy", "num_classes": 6}
    assert (data["seeds"], data["experiment"], data["data_root"]) == ([1, 2], "a=b", None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs", "write overrides as key.path=value"),
        ("a..b=1", "write overrides as"),
        ("learners.5=x", "'5' is no place in a list of 1"),
        ("training.epochs.x=1", "training.epochs holds a value"),
        ("experiment=[", "not valid YAML"),
    ],
)
def test_bad_overrides(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        apply_override(toy_data(), override)


def test_cells_are_learners_times_seeds_with_hashes_of_their_own() -> None:
    grid = config(learners=["finetune", "joint"], seeds=[1, 2, 3])
    cells = grid.cells()
    assert [(c.learners[0].registered_name, c.seeds[0]) for c in cells] == [
        (name, seed) for name in ("finetune", "joint") for seed in (1, 2, 3)
    ]
    assert len({c.hash for c in cells}) == 6


def test_the_hash_covers_what_is_computed_and_not_where() -> None:
    base = config().hash
    assert base == config(output_dir="x", data_root="y", cache="disk").hash
    assert base == config(tracking={"store": "mlflow"}).hash
    assert base == RunConfig.parse(config().dump()).hash
    assert base != config(training={"epochs": 3}).hash
    assert base != config(quick=True).hash


@pytest.mark.parametrize(
    "changes", [{"learners": []}, {"seeds": []}, {"seeds": [1, 1]}, {"experiment": "../up"},
                {"learners": ["joint", "joint"]}, {"seeds": [-1]}]
)  # fmt: skip
def test_empty_repeated_or_unsafe_values_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        config(**changes)


def test_data_root_is_config_then_environment(monkeypatch) -> None:
    monkeypatch.setenv("MEDLEY_DATA", "/env")
    assert config(dataset="fsdd").dataset_root() == Path("/env/fsdd")
    assert config(dataset="fsdd", data_root="/cfg").dataset_root() == Path("/cfg/fsdd")
    own = config(dataset={"name": "fsdd", "root": "/own"}, data_root="/cfg")
    assert own.dataset_root() == Path("/own")
    monkeypatch.delenv("MEDLEY_DATA")
    with pytest.raises(UserError, match="data_root is not set: give data_root=FOLDER or"):
        config(dataset="fsdd").dataset_root()
    with pytest.raises(UserError, match="needs the folder of your data"):
        config(dataset="folder").dataset_root()


def test_shipped_configs_are_found_by_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path("demo/ecg")).name == "ecg.yaml"
    assert find_config(Path("configs/demo/ecg.yaml")).name == "ecg.yaml"
    folder = [path.stem for path in find_configs(Path("demo"))]
    assert folder == ["audio", "ecg", "speech", "video", "xray"]
    with pytest.raises(UserError, match=r"no such config file, nor one that is shipped"):
        load_config(Path("bench/nothing"), model=RunConfig)


def test_markers_tell_the_files_of_commands_apart() -> None:
    configs = command_configs()
    assert {"bench", "align", "zeroshot"} <= set(configs)
    assert len({config.marker for config in configs.values()}) == len(configs)
    for name, config in configs.items():
        assert config.model_fields[config.marker].is_required(), name
        others = [c for c in configs.values() if config.marker in c.model_fields]
        assert others == [config], f"{config.marker} is a key of other commands too"


def test_a_pair_asks_for_a_data_root_only_where_a_member_needs_it(monkeypatch) -> None:
    monkeypatch.delenv("MEDLEY_DATA", raising=False)

    def root(*members: dict[str, object], **fields: object) -> Path:
        dataset = {"name": "paired", "members": [{"dataset": m} for m in members], **fields}
        return CommandConfig.parse({"experiment": "x", "dataset": dataset}).dataset_root()

    xray: dict[str, object] = {"name": "mimic_cxr"}
    ecg: dict[str, object] = {"name": "mimic_iv_ecg"}
    table: dict[str, object] = {"name": "table", "modality": "speech", "file": "t.csv"}
    with pytest.raises(UserError, match=r"the folder that holds mimic_cxr/ and mimic_iv_ecg/, or"):
        root(xray, ecg)
    with pytest.raises(UserError, match=r"the folder that holds mimic_iv_ecg/, or"):
        root({**xray, "root": "a"}, ecg)
    with pytest.raises(UserError, match="the files of member 'table'"):
        root({**xray, "root": "a"}, table)
    assert root({**xray, "root": "a"}, {**ecg, "root": "b"}) == Path(".")
    assert root(xray, ecg, root="both") == Path("both")
