"""Readers of official dataset layouts, users' own folders and tables, and synthetic defaults.

A registered dataset config has ``root`` (None: a folder of the dataset's name in the data root)
and ``build(root: Path) -> Manifest``: a pure function of the files' names and annotations that
opens no signal. Synthetic datasets get the folder in which they may cache what they make.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from multimodal.downloads import Download
from multimodal.recordings import Manifest
from multimodal.registry import Config, Registry

DATASETS = Registry("dataset", "multimodal.datasets", "multimodal.datasets.synthetic")


class DatasetConfig(Config):
    """Base of every dataset's config.

    folder: name of the dataset's folder in the data root; "" if it makes its own signals
    (synthetic) or needs ``root`` (a user's own data). modalities: the adapters it serves.
    summary, licence, how_to_get: for ``medley datasets list`` and ``describe``.
    downloads: what ``medley datasets get`` fetches; empty where a person must get the data.
    """

    folder: ClassVar[str] = ""
    synthetic: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    how_to_get: ClassVar[str] = ""
    downloads: ClassVar[tuple[Download, ...]] = ()

    root: str | None = None

    def build(self, root: Path) -> Manifest:
        """Read the manifest from ``root``; UserError says what was expected and what is there."""
        raise NotImplementedError
