"""From a grid's config to its cells: frozen configs of one run each, known by their hashes."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.grid.config import GridConfig, Keys
from benchmarks.config.base import CommandConfig
from benchmarks.config.loading import command_configs, commands_of, make_config
from benchmarks.config.overrides import place
from benchmarks.config.settings import find_config, read_written
from multimodal.errors import UserError

COMMANDS = ("bench", "align", "finetune")
SHARED = ("experiment", "data_root", "output_dir", "quick", "tracking")
MOST_PROBLEMS = 10


class PlannedCell(NamedTuple):
    """One run. base: its config's name. choice: what of the grid made it. row: of a table."""

    config: CommandConfig
    base: str
    choice: Mapping[str, Any]

    @property
    def row(self) -> str:
        return entry_of(self.config).row_name

    @property
    def scenario(self) -> str:
        found = getattr(self.config, "scenario", None)
        return self.config.command if found is None else found.registered_name

    @property
    def seed(self) -> int:
        return self.config.seeds[0]  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def title(self) -> str:
        """For people: data, scenario, row, seed, and what else varies."""
        data = self.config.dataset.registered_name
        more = f", {self.changes}" if self.changes else ""
        return f"{data} {self.scenario} {self.config.title}{more}"

    @property
    def changes(self) -> str:
        """What of the choice no other column tells, by the last names of its settings."""
        told = []
        for key, value in self.choice.items():
            if key in (self.config.marker, "seeds"):
                continue
            if key not in ("dataset", "scenario"):
                told.append(f"{key.rpartition('.')[2]}={short(value)}")
            elif isinstance(value, dict):  # its name has a column
                told.append(short({k: v for k, v in value.items() if k != "name"}))
        return ", ".join(told)


class Plan(NamedTuple):
    """cells: each once. notes: what a user should know, duplicates above all."""

    cells: list[PlannedCell]
    notes: list[str]


def expand(grid: GridConfig) -> Plan:
    """All cells, in the order of bases, then of choices, then of a base's rows and seeds.

    UserError: a base that cannot be read, settings that fit no cell, a grid without a cell.
    """
    found: dict[Path, PlannedCell] = {}
    notes, problems, left_out = [], [], [0] * len(grid.exclude)
    for base, choice in _choices(grid):
        try:
            configs = _configs(grid, base, choice)
        except UserError as error:
            problems.append(f"{error} (with {short(choice)})" if choice else str(error))
            continue
        for config in configs:
            cell = PlannedCell(config, base, choice)
            if (rule := _excluded(cell, grid.exclude)) is not None:
                left_out[rule] += 1
            elif (known := found.get(config.folder)) is not None:
                notes.append(f"{cell.title}: the same run as {known.title}; it is made once.")
            else:
                found[config.folder] = cell
    if problems:
        more = [f"... and {len(problems) - MOST_PROBLEMS} more"] * (len(problems) > MOST_PROBLEMS)
        raise UserError("\n".join([*problems[:MOST_PROBLEMS], *more]))
    for rule, count in zip(grid.exclude, left_out, strict=True):
        if not count:
            notes.append(f"exclude: {short(rule)} fits no cell.")
    if not found:
        raise UserError(f"exclude: leaves none of the cells of {', '.join(grid.base)}.")
    return Plan(list(found.values()), notes)


def _choices(grid: GridConfig) -> Iterator[tuple[str, Keys]]:
    """(base, key.path -> value) of every combination, then of further cells."""
    lengths = [len(values) for values in grid.zip.values()]
    rows = [{k: v[i] for k, v in grid.zip.items()} for i in range(lengths[0] if lengths else 1)]
    several = grid.product or grid.zip or not grid.cells
    for base in grid.base:
        for values in itertools.product(*grid.product.values()) if several else ():
            for row in rows:
                yield base, {**dict(zip(grid.product, values, strict=True)), **row}
        for own in grid.cells:
            of, choice = own.get("base", base), {k: v for k, v in own.items() if k != "base"}
            if of == base:
                yield base, choice
    named = [own["base"] for own in grid.cells if "base" in own]
    strangers = [name for name in named if name not in grid.base]
    if strangers:
        raise UserError(f"cells: base {strangers[0]!r} is none of {', '.join(grid.base)}.")


def _configs(grid: GridConfig, base: str, choice: Keys) -> list[CommandConfig]:
    """The cells of one base with one choice."""
    data = copy.deepcopy(_read(base))
    model = command_configs()[_command(base, data)]
    assert issubclass(model, CommandConfig)
    shared = {name: getattr(grid, name) for name in SHARED}
    settings = {k: v for k, v in shared.items() if v is not None}
    if grid.seeds is not None:
        settings["seeds"] = list(grid.seeds)
    for key, value in {**settings, **grid.settings, **choice}.items():
        rows = key in (model.marker, "seeds") and not isinstance(value, list)
        shown = f"{key}={short(value)}"
        for keys, each in _leaves(key.split("."), [value] if rows else value):
            place(data, keys, copy.deepcopy(each), shown=shown)
    config = make_config(data, model=model, source=base)
    return list(_resolved(config).cells())


def _leaves(keys: list[str], value: Any) -> Iterator[tuple[list[str], Any]]:
    """A mapping changes single settings, unless it names a choice, which it then is as a whole."""
    if isinstance(value, dict) and value and "name" not in value:
        for key, each in value.items():
            yield from _leaves([*keys, *key.split(".")], each)
    else:
        yield keys, value


def _resolved(config: CommandConfig) -> CommandConfig:
    """As its command runs it: fine-tuning from an earlier run takes that one's encoder."""
    if not isinstance(config, FinetuneConfig):
        return config
    from benchmarks.commands.finetune.opening import open_start
    from benchmarks.commands.finetune.start import resolved

    return resolved(config, open_start(config))


def _read(base: str) -> dict[str, Any]:
    file = find_config(Path(base))
    if file.is_dir():
        raise UserError(f"base: {base} is a folder; list its files.")
    return read_written(file)


def _command(base: str, data: Mapping[str, Any]) -> str:
    found = [name for name in commands_of(data) if name in COMMANDS]
    if not found:
        raise UserError(f"base: {base} is no config of medley {', '.join(COMMANDS)}.")
    return found[0]


def _excluded(cell: PlannedCell, rules: tuple[Keys, ...]) -> int | None:
    """The number of the first rule that the cell fits."""
    data = cell.config.dump()
    for number, rule in enumerate(rules):
        if all(_fits(cell, data, key, wanted) for key, wanted in rule.items()):
            return number
    return None


def _fits(cell: PlannedCell, data: Any, key: str, wanted: Any) -> bool:
    if key == "base":
        return cell.base == wanted
    for part in key.split("."):
        if isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        elif isinstance(data, dict) and part in data:
            data = data[part]
        else:
            return False
    rows = isinstance(data, list) and not isinstance(wanted, list)  # of a single cell's only row
    return any(_equal(each, wanted) for each in (data if rows else [data]))


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, dict) and isinstance(wanted, str):
        return found.get("name") == wanted
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(key in found and _equal(found[key], value) for key, value in wanted.items())
    return bool(found == wanted)


def entry_of(config: CommandConfig) -> Any:
    """What the only row of a cell is about: its learner, objective or method."""
    return getattr(config, config.marker)[0]


def short(value: Any) -> str:
    """A setting's value in a few letters."""
    if isinstance(value, dict) and "name" in value:
        more = {k: v for k, v in value.items() if k != "name"}
        return str(value["name"]) + (f"({short(more)})" if more else "")
    if isinstance(value, dict):
        return ", ".join(f"{key}={short(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(short, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)
