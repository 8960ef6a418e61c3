"""Readers of official dataset layouts, users' own folders and tables, and synthetic defaults.

A registered dataset config has ``root`` (None: a folder of the dataset's name in the data root)
and ``build(root: Path) -> Manifest``: a pure function of the files' names and annotations that
opens no signal. Synthetic datasets get the folder in which they may cache what they make. A
``CasesConfig`` has several modalities: ``build_cases(root) -> Cases``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from multimodal.datasets.moments import Written
from multimodal.datasets.pairing import Cases
from multimodal.downloads import Download
from multimodal.errors import UserError
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

    @property
    def sought(self) -> tuple[str, ...]:
        """What it reads below the data root, in words such as "fsdd/"; nothing if it has its own
        ``root``, or makes its signals.
        """
        return () if self.root is not None or self.synthetic else (f"{self.folder}/",)

    def build(self, root: Path) -> Manifest:
        """Read the manifest from ``root``; UserError says what was expected and what is there."""
        raise NotImplementedError

    def moments(self, root: Path, column: str | None = None) -> Mapping[str, Written]:
        """When each recording was made, by uid, as the table has it (in ``column``, if named).

        UserError: the dataset does not tell.
        """
        raise UserError(
            f"dataset {self.registered_name!r} does not tell when its recordings were made; set "
            "pairing.days=null and pairing.how=all_within_days, which ask for the patient only."
        )

    def build_for_stream(self, root: Path) -> Manifest:
        """As ``build``; what only the splits are refused for may be left to the stream.

        ``Manifest.undrawn`` or ``Manifest.shared`` tell of it then. A stream of other classes, or
        one that is split inside groups, has no need of what is refused.
        """
        return self.build(root)


class CasesConfig(DatasetConfig):
    """Base of datasets of several modalities: their cases, or one modality of them.

    modality: of what ``build`` gives, where a command reads one; None: the first.
    """

    modality: str | None = None

    def build_cases(self, root: Path) -> Cases:
        """Read the cases from ``root``; UserError as ``build``."""
        raise NotImplementedError

    def build(self, root: Path) -> Manifest:
        """The manifest of ``modality``, each recording in the split of its patient's cases."""
        cases = self.build_cases(root)
        name = self.modality or cases.modalities[0]
        if name not in cases.manifests:
            raise UserError(
                f"dataset.modality={name!r}: {cases.name!r} holds {', '.join(cases.modalities)}."
            )
        return cases.manifests[name]
