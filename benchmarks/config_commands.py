"""What ``medley config show`` and ``medley config schema`` do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.align_config import CONFIGS, AlignConfig
from benchmarks.bench_config import RunConfig
from benchmarks.config.loading import command_of, load_config
from benchmarks.config.settings import find_configs, read_yaml
from multimodal.errors import UserError, did_you_mean


def show(path: Path, overrides: Sequence[str]) -> None:
    """Print the whole config as YAML, and where each run would go."""
    files = find_configs(path)
    configs = [load_config(f, overrides, model=CONFIGS[command_of(read_yaml(f))]) for f in files]
    dumps = [config.dump() for config in configs]
    sys.stdout.write(yaml.safe_dump_all(dumps, sort_keys=False, allow_unicode=True))
    for config in configs:
        if isinstance(config, RunConfig | AlignConfig):
            for cell in config.cells():
                chosen = cell.learners if isinstance(cell, RunConfig) else cell.objectives
                name = f"{cell.dataset.registered_name} {chosen[0].registered_name}"
                print(f"# {name} seed {cell.seeds[0]}: {cell.folder}")


def print_schema(command: str) -> None:
    """Print the JSON Schema of a command's config file."""
    if command not in CONFIGS:
        raise UserError(f"unknown command {command!r}{did_you_mean(command, list(CONFIGS))}")
    print(json.dumps(CONFIGS[command].model_json_schema(), indent=1))
