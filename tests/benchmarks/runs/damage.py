"""Ways in which files go wrong: each changes the file at a path, given a seeded generator."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np


def flip(path: Path, generator: np.random.Generator) -> None:
    """One byte is another."""
    data = bytearray(path.read_bytes())
    data[generator.integers(len(data))] ^= generator.integers(1, 256)
    replace(path, bytes(data))


def blank(path: Path, generator: np.random.Generator) -> None:
    """Zeros where a block was lost, of up to a quarter of the file."""
    data = bytearray(path.read_bytes())
    size = 1 + int(generator.integers(max(1, len(data) // 4)))
    start = int(generator.integers(len(data) - size + 1))
    data[start : start + size] = bytes(size)
    replace(path, bytes(data))


def cut(path: Path, generator: np.random.Generator) -> None:
    """The end is missing."""
    data = path.read_bytes()
    replace(path, data[: generator.integers(1, len(data))])


def longer(path: Path, generator: np.random.Generator) -> None:
    """Something was written behind the end."""
    replace(path, path.read_bytes() + generator.bytes(100))


def empty(path: Path, generator: np.random.Generator) -> None:
    replace(path, b"")


def foreign(path: Path, generator: np.random.Generator) -> None:
    """A whole file of another kind: JSON, and YAML."""
    replace(path, b'{"name": "another"}\n')


def folder(path: Path, generator: np.random.Generator) -> None:
    """A folder stands there."""
    path.unlink()
    path.mkdir()


DAMAGES = (flip, blank, cut, longer, empty, foreign, folder)


def replace(path: Path, data: bytes) -> None:
    """Not in place: whoever has mapped the file keeps what he had."""
    path.unlink()
    path.write_bytes(data)


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
