"""Settings as they are written: YAML files, shipped or the user's own, and overrides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from multimodal.errors import UserError

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
    names = sorted({str(p.relative_to(f)) for f in CONFIG_FOLDERS for p in f.rglob("*.yaml")})
    raise UserError(f"{path}: no such config file; shipped with Medley: {', '.join(names)}.")


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
