"""``medley encoders``, ``learners``, ``objectives``: what a config may name, and its settings; and
``medley configs``: those that are shipped.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.config.describe import settings_table
from benchmarks.config.loading import commands_of
from benchmarks.config.settings import read_written, shipped_configs
from multimodal.errors import UserError, did_you_mean
from multimodal.files import sweep_beside, write_atomically
from multimodal.registry import Config, Registry

# A docstring that begins with its settings, "rank: r of A and B.", says nothing of the whole.
SETTINGS = re.compile(r"[a-z_]+(, [a-z_]+)*: ")


def print_choices(kind: str) -> None:
    """A table of all of a kind."""
    Console().print(table_of(REGISTRIES[kind](), title=kind.capitalize()))


def describe_choice(kind: str, name: str) -> None:
    """UserError: no such name."""
    describe(REGISTRIES[kind]().config(name))


def encoders() -> Registry:
    from multimodal.encoders import ENCODERS

    return ENCODERS


def learners() -> Registry:
    from continual.learner import LEARNERS

    return LEARNERS


def objectives() -> Registry:
    from multimodal.objectives import OBJECTIVES

    return OBJECTIVES


REGISTRIES = {"encoders": encoders, "learners": learners, "objectives": objectives}


def table_of(registry: Registry, *, title: str) -> Table:
    """Names, plug-ins' too, and a sentence on each."""

    table = Table(title=title)
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    configs = [registry.config(name) for name in registry.names()]
    shared = [config.__module__ for config in configs]
    for config in configs:
        several = shared.count(config.__module__) > 1
        table.add_row(config.registered_name, Text(summary(config, several=several)))
    return table


def summary(config: type[Config], *, several: bool = False) -> str:
    """The first sentence of the file's documentation; of a file of several choices, the class's."""
    own = inspect.getdoc(config) or ""
    if several and not SETTINGS.match(own):
        return _first_sentence(own)
    return _first_sentence(inspect.getdoc(sys.modules[config.__module__]) or own)


def describe(config: type[Config]) -> None:
    """The documentation of its file and of its settings, and a table of these."""

    out = Console()
    module = sys.modules[config.__module__]
    out.print(f"[bold]{config.registered_name}[/bold]")
    for text in (inspect.getdoc(module), inspect.getdoc(config)):
        out.print(f"{text or ''}\n", markup=False, soft_wrap=True)
    out.print(settings_table(config))


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    found = re.match(r".*?[^ ]{3,}\.(?= [A-Z]| [a-z_]+[:,]|$)", paragraph)
    return found[0] if found else paragraph


def shipped_names() -> list[str]:
    """Of the shipped configs, as commands take them."""
    return list(shipped_configs())


def print_shipped() -> None:
    """A table of the shipped configs: name, and the first sentence of each file's comment."""

    table = Table(title="Shipped configs")
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    for name, file in shipped_configs().items():
        table.add_row(name, Text(_purpose(file)))
    Console().print(table)


def copy_shipped(name: str, target: Path | None) -> None:
    """UserError: no such config, or the file is there already."""

    shipped = shipped_configs()
    key = name.removeprefix("configs/").removesuffix(".yaml")
    if key not in shipped:
        raise UserError(f"no shipped config {name!r}{did_you_mean(key, list(shipped))}")
    target = target or Path(shipped[key].name)
    if target.exists():
        raise UserError(f"{target} is there already; give another name to write to.")
    sweep_beside(target)
    write_atomically(target, shipped[key].read_bytes())
    print(f"{target}: a copy of {key}; run it with: medley {_command_of(target)} {target}")


def _command_of(file: Path) -> str:

    found = commands_of(read_written(file))
    return found[0] if found else "bench"


def _purpose(file: Path) -> str:
    lines = []
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("#") or line.startswith("#   "):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].rstrip(".")
