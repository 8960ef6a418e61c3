"""RunConfig: one YAML file, validated whole.

A config that lists several learners or seeds is a small grid; ``cells`` splits it into configs of
one learner and one seed. The hash of a cell's canonical JSON is the identity of its run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from benchmarks.tracking import TrackingConfig
from continual.learners import LEARNERS
from continual.scenarios import SCENARIOS
from multimodal.datasets import DATASETS
from multimodal.encoders import ENCODERS
from multimodal.errors import UserError, did_you_mean
from multimodal.modalities import MODALITIES
from multimodal.registry import Config

DATA_VARIABLE = "MEDLEY_DATA"
# In the wheel; in a checkout.
CONFIG_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
# Where a run reads and writes does not change what it computes.
PLACES = ("data_root", "output_dir", "cache", "tracking")


class TrainingConfig(Config):
    """AdamW on mini-batches. epochs: per experience. device: auto takes a GPU where there is one.

    checkpoint_every: steps between checkpoints within an experience. threads: of PyTorch on the
    CPU; None leaves its default (results are bit-identical for one number of threads).
    """

    epochs: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 32
    eval_batch_size: Annotated[int, Field(ge=1)] = 256
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    log_every: Annotated[int, Field(ge=1)] = 10


class RunConfig(Config):
    """Everything ``medley bench`` needs.

    data_root: folder of the datasets, one folder each; None: environment MEDLEY_DATA.
    output_dir: runs go to ``<output_dir>/<experiment>/<config hash>``. cache: decoded signals in
    memory or on disk (``<output_dir>/cache``). skip_damaged: leave unreadable files out instead of
    refusing to start. quick: two experiences of one epoch, for a first try.
    """

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    dataset: Annotated[Config, DATASETS.choice]
    scenario: Annotated[Config, SCENARIOS.choice]
    learners: tuple[Annotated[Config, LEARNERS.choice], ...]
    modality: Annotated[Config, MODALITIES.choice] = Field(
        default_factory=lambda: MODALITIES.parse({})
    )
    encoder: Annotated[Config, ENCODERS.choice] = Field(default_factory=lambda: ENCODERS.parse({}))
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = (1,)
    training: TrainingConfig = TrainingConfig()
    tracking: TrackingConfig = TrackingConfig()
    data_root: str | None = None
    output_dir: str = "runs"
    cache: Literal["memory", "disk"] = "memory"
    skip_damaged: bool = False
    quick: bool = False

    @field_validator("learners", "seeds")
    @classmethod
    def _some_and_no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("list at least one")
        if any(v in values[:i] for i, v in enumerate(values)):
            raise ValueError("an entry is listed twice")
        return values

    def cells(self) -> list[RunConfig]:
        """One config for each learner and seed, in the order of a table."""
        return [
            self.model_copy(update={"learners": (learner,), "seeds": (seed,)})
            for learner in self.learners
            for seed in self.seeds
        ]

    @property
    def hash(self) -> str:
        """Identity of the run: 12 hex digits over everything that changes what it computes."""
        data = {k: v for k, v in self.dump().items() if k not in PLACES}
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """``<output_dir>/<experiment>/<config hash>``."""
        return Path(self.output_dir).expanduser() / self.experiment / self.hash

    def dataset_root(self) -> Path:
        """The dataset's folder; UserError if neither it nor a data root is set."""
        root, folder = getattr(self.dataset, "root", None), getattr(self.dataset, "folder", "")
        if root is not None:
            return Path(root).expanduser()
        if getattr(self.dataset, "synthetic", False):
            return Path(self.output_dir) / "synthetic"
        name = self.dataset.registered_name
        if not folder:
            raise UserError(f"dataset.root: dataset {name!r} needs the folder of your data.")
        data_root = self.data_root or os.environ.get(DATA_VARIABLE)
        if data_root is None:
            raise UserError(
                f"data_root is not set: give data_root=FOLDER or the environment variable "
                f"{DATA_VARIABLE}, the folder that holds {folder}/, or dataset.root=FOLDER."
            )
        return Path(data_root).expanduser() / folder


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply ``key.path=value`` overrides and validate all of it.

    Raises UserError with one line a problem.
    """
    data = read_yaml(find_config(path))
    for override in overrides:
        apply_override(data, override)
    return validate(RunConfig, data, source=str(path))


def find_configs(path: Path) -> list[Path]:
    """The file itself, or all YAML files of a folder, in the order of their names."""
    found = find_config(path)
    if not found.is_dir():
        return [found]
    files = sorted(found.glob("*.yaml"))
    if not files:
        raise UserError(f"{found}: no YAML file in this folder.")
    return files


def find_config(path: Path) -> Path:
    """The file or folder itself, or what ships with Medley under that name (``bench/esc10``)."""
    if path.exists():
        return path
    parts = path.parts[1:] if path.parts[:1] == ("configs",) else path.parts
    for folder in CONFIG_FOLDERS:
        shipped = folder.joinpath(*parts)
        if shipped.with_suffix(".yaml").exists():
            return shipped.with_suffix(".yaml")
        if parts and shipped.is_dir():
            return shipped
    names = sorted({str(p.relative_to(f)) for f in CONFIG_FOLDERS for p in f.rglob("*.yaml")})
    raise UserError(f"{path}: no such config file; shipped with Medley: {', '.join(names)}.")


def validate(model: type[RunConfig], data: object, *, source: str) -> RunConfig:
    """Plain data -> config; UserError with every problem, one a line."""
    try:
        return model.parse(data)
    except ValidationError as error:
        raise UserError("\n".join(_lines(error, data, source))) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: not plain settings ({error}).") from error


def _lines(error: ValidationError, data: object, source: str) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(p) for p in problem["loc"]) or "(file)"
        message, value = problem["msg"].removeprefix("Value error, "), problem["input"]
        if problem["type"] == "extra_forbidden":
            *section, key = problem["loc"]
            valid = _valid_keys(tuple(section), data)
            message = f"unknown key{did_you_mean(str(key), valid) if valid else ''}"
            lines.append(f"{source}: {path}: {message}")
        elif problem["type"] in ("choice", "missing") or isinstance(value, dict | list):
            lines.append(f"{source}: {path}: {message}")
        else:
            lines.append(f"{source}: {path}: {message} (got {value!r})")
    return lines


def _valid_keys(path: tuple[int | str, ...], data: Any) -> list[str]:
    """The keys of the settings that ``path`` leads to in plain config data."""
    sections: dict[str, type[Config]] = {"training": TrainingConfig, "tracking": TrackingConfig}
    if not path:
        return list(RunConfig.model_fields)
    top = str(path[0])
    if top in sections:
        return list(sections[top].model_fields)
    registries = {"dataset": DATASETS, "scenario": SCENARIOS, "learners": LEARNERS}
    registries |= {"modality": MODALITIES, "encoder": ENCODERS}
    if len(path) > (2 if top == "learners" else 1):
        return []  # settings within settings, of a plug-in perhaps
    here = data
    for key in path:
        here = here[key]
    name = here.get("name", registries[top].default)
    return ["name", *registries[top].config(name).model_fields]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys and reads 1e-4 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise UserError(f"line {line}: {key!r} cannot be a key; write a name.")
            if key in seen:
                raise UserError(f"line {line}: key {key!r} stands twice in one mapping.")
            seen.add(key)
        return super().construct_mapping(node, deep)


# Dates are no settings: 2026-01-31 stays text.
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; UserError names the file and the line of what is wrong."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the config ({error}).") from error
    try:
        data = parse_yaml(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(data).__name__}.")
    return data


def parse_yaml(text: str) -> Any:
    """One YAML document; UserError for a duplicate key."""
    return _Loader(text).get_single_data()


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set ``key.path=value`` in plain config data; the value is read as YAML.

    A number in the path is a place in a list; a name on the way (``dataset: fsdd``) becomes the
    mapping ``{name: fsdd}``. UserError if there is no "=", or the path leads through a value.
    """
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise UserError(f"{override!r}: write overrides as key.path=value.")
    here: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        slot: Any = key
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise UserError(f"{override!r}: {key!r} is no place in a list of {len(here)}.")
            slot = int(key)
        elif not isinstance(here, dict):
            raise UserError(f"{override!r}: {'.'.join(keys[:depth])} holds a value, not settings.")
        if last:
            try:
                here[slot] = parse_yaml(text)
            except yaml.YAMLError as error:
                raise UserError(f"{override!r}: the value is not valid YAML.") from error
            except UserError as error:
                raise UserError(f"{override!r}: {error}") from error
            return
        child = here.get(slot) if isinstance(here, dict) else here[slot]
        if isinstance(child, str):
            child = {"name": child}
        here[slot] = {} if child is None else child
        here = here[slot]
