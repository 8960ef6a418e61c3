"""A dataset whose reader dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.recordings import Manifest
from tests.toy import toy_manifest


def with_reader(read: Callable[[], np.ndarray]) -> Manifest:
    manifest = toy_manifest(train=4)
    rows = tuple(replace(r, make=read) for r in manifest.recordings)
    return replace(manifest, recordings=rows)


@DATASETS.register("toy_hungry")
class ToyHungryConfig(DatasetConfig):
    """There is no memory for it."""

    synthetic: ClassVar[bool] = True

    def build(self, root: Path) -> Manifest:
        raise MemoryError("8 GiB asked for")


@DATASETS.register("toy_deadly")
class ToyDeadlyConfig(DatasetConfig):
    """Whoever reads it is killed, as by a system without memory. mark: only once, says a file."""

    synthetic: ClassVar[bool] = True
    mark: str | None = None

    def build(self, root: Path) -> Manifest:
        whole = toy_manifest(train=4)
        if self.mark is not None and Path(self.mark).exists():
            return whole

        def read() -> np.ndarray:
            if self.mark is not None:
                Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        return with_reader(read)
