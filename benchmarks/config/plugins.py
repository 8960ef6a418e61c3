"""Which plug-ins a config uses, told by their sources: they change while settings stay."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from multimodal.registry import Config

OURS = ("multimodal", "continual", "benchmarks")
UNKNOWN = "unknown"  # of what was typed in an interpreter


def plugins_of(config: Config) -> dict[str, str]:
    """Top-level module -> 12 hex digits over its sources, of every choice that is not Medley's own;
    sorted.
    """
    places = {type(c).__module__ for c in _configs(config)}
    names = sorted({place.partition(".")[0] for place in places} - {*OURS})
    return {name: source_digest(name) for name in names}


@lru_cache
def source_digest(name: str) -> str:
    """Of an imported module's file, or of all Python files of a package, in the order of names.

    It is what was imported: a file that changes afterwards counts when the program starts anew.
    """
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return UNKNOWN
    path, digest = Path(file), hashlib.sha256()
    folder = path.parent
    files = sorted(folder.rglob("*.py")) if path.name == "__init__.py" else [path]
    for each in files:
        digest.update(f"{each.relative_to(folder).as_posix()}\n".encode())
        digest.update(hashlib.sha256(each.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _configs(value: Any) -> Iterator[Config]:
    """A config and all within it."""
    if isinstance(value, Config):
        yield value
        for name in type(value).model_fields:
            yield from _configs(getattr(value, name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from _configs(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _configs(each)
