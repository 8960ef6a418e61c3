"""Reading configs: YAML and overrides -> a command's config; every problem, one a line."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from benchmarks.config.base import CommandConfig, FileConfig
from benchmarks.config.plugins import plugins_of
from benchmarks.config.settings import find_config, read_written, typed
from benchmarks.config.written import field_kinds, kinds
from multimodal.credentials import hidden
from multimodal.datasets import DATASETS
from multimodal.errors import UserError, did_you_mean
from multimodal.registry import Config, Registry
from multimodal.yaml_limits import load

COMMANDS = "benchmarks.commands"
# Of text where something else is wanted.
HINTS = {
    "tuple_type": "; write [a, b]",
    "int_type": "; write a whole number such as 10",
    "float_type": "; write a number such as 0.1 or 1e-3",
    "bool_type": "; write true or false",
}
# Problems that are told; characters of a value, and of a line.
MOST_LINES, LONGEST, LINE = 50, 200, 1_500
AnyFile = TypeVar("AnyFile", bound=FileConfig)
AnyConfig = TypeVar("AnyConfig", bound=CommandConfig)


def load_config(path: Path, overrides: Sequence[str] = (), *, model: type[AnyFile]) -> AnyFile:
    """Read a YAML file, apply ``key.path=value`` overrides and validate all of it.

    In both, text stands for itself in a field that takes text; see ``benchmarks.config.written``.

    A quick run is of the file's first seed, unless the command line names others.

    Raises UserError with one line a problem, or naming the command that the file is for.
    """
    config = load_whole(path, overrides, model=model)
    seeds = getattr(config, "seeds", None) or ()
    named = any(text.partition("=")[0].split(".")[0] == "seeds" for text in overrides)
    if getattr(config, "quick", False) and len(seeds) > 1 and not named:
        config = config.model_copy(update={"seeds": seeds[:1]})
    return config


def load_whole(path: Path, overrides: Sequence[str] = (), *, model: type[AnyFile]) -> AnyFile:
    """The same with all seeds of a quick run."""
    data = read_written(find_config(path))
    if model.command not in commands_of(data) and (others := commands_of(data)):
        raise UserError(
            f"{path}: this is a config of `medley {others[0]}`, not of `medley {model.command}`."
        )
    return make_config(data, overrides, model=model, source=str(path))


def make_config(
    data: dict[str, Any], overrides: Sequence[str] = (), *, model: type[AnyFile], source: str
) -> AnyFile:
    """The same of what a file holds, as ``settings.read_written`` gives it."""
    data = _one_modality(model, typed(data, overrides, model))
    config = validate(model, data, source=source)
    if isinstance(config, CommandConfig):
        _refuse_other_plugins(config, source)
    return config


def _refuse_other_plugins(config: CommandConfig, source: str) -> None:
    """UserError if a config was written with another source of a plug-in than there is now."""
    now = plugins_of(config)
    for name, digest in config.plugins.items():
        if name in now and now[name] != digest:
            raise UserError(
                f"{source}: plugins.{name}: the source of this plug-in has changed since the "
                f"config was written (digest {digest}, now {now[name]}); restore it, or leave "
                f"plugins.{name} out of the file to run what there is now."
            )


def _one_modality(model: type[FileConfig], data: dict[str, Any]) -> dict[str, Any]:
    """A user's own folder or table is of the config's modality: whoever says one says both."""
    dataset, modality = _named(data.get("dataset")), _named(data.get("modality", {}))
    if "modality" not in model.model_fields or dataset is None or modality is None:
        return data
    if dataset.get("name") not in DATASETS.names():
        return data
    if "modality" not in DATASETS.config(dataset["name"]).model_fields:
        return data
    if "name" in modality:
        dataset = {"modality": modality["name"], **dataset}
    elif dataset.get("modality") is not None:
        modality = {"name": dataset["modality"], **modality}
    else:
        return data
    return {**data, "dataset": dataset, "modality": modality}


def _named(value: Any) -> dict[str, Any] | None:
    """Settings as a mapping (a bare name stands for one); None: no settings."""
    if isinstance(value, str):
        return {"name": value}
    return value if isinstance(value, dict) else None


def commands_of(data: Mapping[str, Any]) -> list[str]:
    """The commands whose marker plain config data has."""
    configs = command_configs()
    return [name for name, c in configs.items() if c.marker in data or c.alias in data]


def command_configs() -> dict[str, type[FileConfig]]:
    """Command -> its config class, of every command that reads a file; imports them all.

    As registries do, it looks for modules: those of the room of commands, a folder's ``config``.
    """
    for module in pkgutil.iter_modules(importlib.import_module(COMMANDS).__path__):
        name = f"{COMMANDS}.{module.name}{'.config' * module.ispkg}"
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    return {config.command: config for config in _below(FileConfig) if config.command}


def _below(config: type[FileConfig]) -> list[type[FileConfig]]:
    return [c for direct in config.__subclasses__() for c in (direct, *_below(direct))]


def validate(model: type[AnyFile], data: object, *, source: str) -> AnyFile:
    """Plain data -> config; UserError with every problem, one a line."""
    try:
        return model.parse(data)
    except ValidationError as error:
        lines, count = _lines(error, model, data, source), error.error_count()
        lines = [line if len(line) <= LINE else f"{line[:LINE]} ..." for line in lines]
        more = [f"{source}: ... and {count - len(lines)} more"] * (count > len(lines))
        raise UserError("\n".join([*lines, *more])) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: not plain settings ({error}).") from error


def read_back(model: type[AnyConfig], folder: Path, remedy: str) -> AnyConfig:
    """The config of a run, from its folder; UserError with ``remedy`` if it cannot be read."""
    path = folder / "config.yaml"
    try:
        return model.parse(load(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read ({words}); {remedy}.") from error


def _lines(error: ValidationError, model: type[Config], data: object, source: str) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False)[:MOST_LINES]:
        path = ".".join(str(p) for p in problem["loc"]) or "(file)"
        message, value = problem["msg"].removeprefix("Value error, "), problem["input"]
        if problem["type"] == "json_invalid":
            lines.append(f"{source}: a setting holds a name that is no UTF-8; rename that folder.")
        elif problem["type"] == "extra_forbidden":
            *section, key = problem["loc"]
            valid = _valid_keys(model, section, data)
            message = f"unknown key{did_you_mean(str(key), valid) if valid else ''}"
            lines.append(f"{source}: {path}: {message}")
        elif problem["type"] == "too_short":
            least = problem.get("ctx", {}).get("min_length", 1)
            lines.append(f"{source}: {path}: lists nothing; list {least} or more, or leave it out")
        elif problem["type"] in ("choice", "missing") or isinstance(value, dict | list):
            lines.append(f"{source}: {path}: {message}")
        else:
            hint = HINTS.get(problem["type"], "") if isinstance(value, str) else ""
            shown = hidden(repr(value))
            shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} ..."
            lines.append(f"{source}: {path}: {message} (got {shown}){hint}")
    return lines


def _valid_keys(model: type[Config], path: Sequence[int | str], data: Any) -> list[str]:
    """The keys of the settings that ``path`` leads to in plain config data of ``model``."""
    if not path:
        return list(model.model_fields)
    field = model.model_fields[str(path[0])]
    allowed = field_kinds(field)
    listed = [kind for each in allowed for part in get_args(each)[:1] for kind in kinds(part)]
    several = not any(isinstance(kind, Registry) for kind in allowed)
    registry = next((k for k in (*allowed, *listed) if isinstance(k, Registry)), None)
    if registry is None:
        section = field.annotation
        return list(section.model_fields) if isinstance(section, type) else []  # pyright: ignore
    if len(path) > 1 + several:
        return []  # settings within settings, of a plug-in perhaps
    here = data
    for key in path:
        here = here[key]
    return ["name", *registry.config(here.get("name", registry.default)).model_fields]
