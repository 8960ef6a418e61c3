"""What ``medley config show`` and ``medley config schema`` do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.config.base import CommandConfig, FileConfig
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import command_configs, commands_of, load_config
from benchmarks.config.overrides import override
from benchmarks.config.settings import find_configs, read_written
from multimodal.errors import UserError, did_you_mean


def show(path: Path, overrides: Sequence[str]) -> None:
    """Print the whole config as YAML, and where each run would go."""
    files = find_configs(path)
    models = [_model(file, overrides) for file in files]
    configs = [load_config(f, overrides, model=m) for f, m in zip(files, models, strict=True)]
    if len(set(models)) == 1:  # of several commands, an override need not do something in each
        refuse_idle(files, overrides, model=models[0])
    dumps = [config.dump() for config in configs]
    sys.stdout.write(yaml.safe_dump_all(dumps, sort_keys=False, allow_unicode=True))
    for config in configs:
        for cell in config.cells() if isinstance(config, CommandConfig) else ():
            print(f"# {cell.dataset.registered_name} {cell.title}: {cell.folder}")


def print_schema(command: str) -> None:
    """Print the JSON Schema of a command's config file."""
    configs = command_configs()
    if command not in configs:
        raise UserError(f"unknown command {command!r}{did_you_mean(command, list(configs))}")
    print(json.dumps(configs[command].model_json_schema(), indent=1))


def _model(file: Path, overrides: Sequence[str]) -> type[FileConfig]:
    """Of the command that a file is for; UserError if it has no command's marker."""
    data = read_written(file)
    for each in overrides:
        override(data, each)
    configs, found = command_configs(), commands_of(data)
    if not found:
        known = ", ".join(f"{c.marker} (medley {name})" for name, c in sorted(configs.items()))
        raise UserError(f"{file}: cannot tell which command this is for; it has none of {known}.")
    return configs[found[0]]
