"""Settings as they are written: YAML files, shipped or the user's own, and overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.config.overrides import override
from benchmarks.config.written import Loader, kinds, read
from multimodal.errors import UserError, did_you_mean
from multimodal.registry import Config
from multimodal.yaml_limits import load

# In the wheel; in a checkout.
CONFIG_FOLDERS = tuple(Path(__file__).parents[up] / "configs" for up in (1, 2))


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
    words = did_you_mean("/".join(parts).removesuffix(".yaml"), list(shipped_configs()))
    raise UserError(f"{path}: no such config file, nor one that is shipped{words}")


def shipped_configs() -> dict[str, Path]:
    """Name ("bench/own_folder") -> file, of all configs that ship with Medley; sorted."""
    found = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for folder in reversed(CONFIG_FOLDERS)
        for file in folder.rglob("*.yaml")
    }
    return dict(sorted(found.items()))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping as plain data; UserError names the file and the line of what is wrong."""
    return read(read_written(path))


def read_written(path: Path) -> dict[str, Any]:
    """A YAML mapping whose plain values are not read yet: see ``typed``."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the config ({error}).") from error
    try:
        data = load(text, Loader)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        kind = "text" if isinstance(data, str) else type(data).__name__
        raise UserError(f"{path}: expected a mapping of settings, found {kind}.")
    return data


def parse_yaml(text: str) -> Any:
    """One YAML document as plain data; UserError for a duplicate key."""
    return read(Loader(text).get_single_data())


def typed(data: dict[str, Any], overrides: Sequence[str], model: type[Config]) -> dict[str, Any]:
    """Plain data of ``model`` from what a file holds and the command line changes.

    UserError for an override that cannot be read, see ``override``.
    """
    for each in overrides:
        override(data, each)
    return read(data, kinds(model))


def apply_override(data: dict[str, Any], text: str) -> None:
    """Set ``key.path=value`` in plain config data whose types are not known."""
    override(data, text)
    data.update(read(data))
