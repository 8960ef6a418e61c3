"""Configs of commands: one YAML file each, validated whole.

``RunConfig`` is that of ``medley bench``; what all commands share is ``CommandConfig``. A config
that lists several learners or seeds is a small grid; ``cells`` splits it into configs of one
learner and one seed. The hash of a cell's canonical JSON is the identity of its run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from benchmarks.settings import apply_override, find_config, read_yaml
from benchmarks.tracking import TrackingConfig
from benchmarks.warm_up import WarmUpConfig
from continual.learners import LEARNERS
from continual.scenarios import SCENARIOS
from multimodal.datasets import DATASETS
from multimodal.encoders import ENCODERS
from multimodal.errors import UserError, did_you_mean
from multimodal.modalities import MODALITIES
from multimodal.registry import Config, Registry

DATA_VARIABLE = "MEDLEY_DATA"
# Where a run reads and writes does not change what it computes.
PLACES = ("data_root", "output_dir", "cache", "tracking")


class CommandConfig(Config):
    """What the config of every command has.

    data_root: folder of the datasets, one folder each; None: environment MEDLEY_DATA.
    output_dir: runs go to ``<output_dir>/<experiment>/<config hash>``. cache: decoded signals in
    memory or on disk (``<output_dir>/cache``). skip_damaged: leave unreadable files out instead of
    refusing to start. quick: a short run for a first try.
    """

    command: ClassVar[str] = ""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    dataset: Annotated[Config, DATASETS.choice]
    tracking: TrackingConfig = TrackingConfig()
    data_root: str | None = None
    output_dir: str = "runs"
    cache: Literal["memory", "disk"] = "memory"
    skip_damaged: bool = False
    quick: bool = False

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.dump(), sort_keys=False, allow_unicode=True)

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


class SignalConfig(CommandConfig):
    """What the config of a command has that makes an encoder of its own."""

    modality: Annotated[Config, MODALITIES.choice] = Field(
        default_factory=lambda: MODALITIES.parse({})
    )
    encoder: Annotated[Config, ENCODERS.choice] = Field(default_factory=lambda: ENCODERS.parse({}))
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = (1,)


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


class RunConfig(SignalConfig):
    """Everything ``medley bench`` needs. quick: two experiences of one epoch.

    warm_up: train the encoder on another dataset first; None: it starts as it was initialised, or
    loaded.
    """

    command: ClassVar[str] = "bench"

    scenario: Annotated[Config, SCENARIOS.choice]
    learners: tuple[Annotated[Config, LEARNERS.choice], ...]
    training: TrainingConfig = TrainingConfig()
    warm_up: WarmUpConfig | None = None

    @field_validator("learners", "seeds")
    @classmethod
    def _some_and_no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return refuse_repeats(values)

    def cells(self) -> list[RunConfig]:
        """One config for each learner and seed, in the order of a table."""
        return [
            self.model_copy(update={"learners": (learner,), "seeds": (seed,)})
            for learner in self.learners
            for seed in self.seeds
        ]


def refuse_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values themselves; ValueError if there is none, or one stands twice."""
    if not values:
        raise ValueError("list at least one")
    if any(v in values[:i] for i, v in enumerate(values)):
        raise ValueError("an entry is listed twice")
    return values


AnyConfig = TypeVar("AnyConfig", bound=CommandConfig)


def load_config(
    path: Path, overrides: Sequence[str] = (), *, model: type[AnyConfig] = RunConfig
) -> AnyConfig:
    """Read a YAML file, apply ``key.path=value`` overrides and validate all of it.

    Raises UserError with one line a problem, or naming the command that the file is for.
    """
    data = read_yaml(find_config(path))
    if command_of(data) != model.command:
        raise UserError(
            f"{path}: this is a config of `medley {command_of(data)}`, not of `medley "
            f"{model.command}`."
        )
    for override in overrides:
        apply_override(data, override)
    return validate(model, data, source=str(path))


def command_of(data: Mapping[str, Any]) -> str:
    """The command that plain config data is for."""
    return "align" if "objectives" in data else "zeroshot" if "model" in data else "bench"


def validate(model: type[AnyConfig], data: object, *, source: str) -> AnyConfig:
    """Plain data -> config; UserError with every problem, one a line."""
    try:
        return model.parse(data)
    except ValidationError as error:
        raise UserError("\n".join(_lines(error, model, data, source))) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: not plain settings ({error}).") from error


def _lines(error: ValidationError, model: type[Config], data: object, source: str) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(p) for p in problem["loc"]) or "(file)"
        message, value = problem["msg"].removeprefix("Value error, "), problem["input"]
        if problem["type"] == "extra_forbidden":
            *section, key = problem["loc"]
            valid = _valid_keys(model, section, data)
            message = f"unknown key{did_you_mean(str(key), valid) if valid else ''}"
            lines.append(f"{source}: {path}: {message}")
        elif problem["type"] in ("choice", "missing") or isinstance(value, dict | list):
            lines.append(f"{source}: {path}: {message}")
        else:
            lines.append(f"{source}: {path}: {message} (got {value!r})")
    return lines


def _valid_keys(model: type[Config], path: Sequence[int | str], data: Any) -> list[str]:
    """The keys of the settings that ``path`` leads to in plain config data of ``model``."""
    if not path:
        return list(model.model_fields)
    field = model.model_fields[str(path[0])]
    registry, several = _choice(field)
    if registry is None:
        section = field.annotation
        return list(section.model_fields) if isinstance(section, type) else []  # pyright: ignore
    if len(path) > 1 + several:
        return []  # settings within settings, of a plug-in perhaps
    here = data
    for key in path:
        here = here[key]
    return ["name", *registry.config(here.get("name", registry.default)).model_fields]


def _choice(field: FieldInfo) -> tuple[Registry | None, bool]:
    """The registry that a field chooses from, if any, and whether it lists several choices."""
    listed = [m for part in get_args(field.annotation) for m in getattr(part, "__metadata__", ())]
    for metadata, several in ((field.metadata, False), (listed, True)):
        for each in metadata:
            if isinstance(registry := getattr(each, "registry", None), Registry):
                return registry, several
    return None, False
