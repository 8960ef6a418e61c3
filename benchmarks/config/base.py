"""What the configs of commands share: one YAML file each, validated whole.

A config that lists several learners, objectives or seeds is a small grid. The hash of a cell's
canonical JSON is the identity of its run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, field_serializer, model_validator

from benchmarks.config.plugins import plugins_of
from multimodal.credentials import HIDDEN, shown
from multimodal.datasets import DATASETS
from multimodal.encoders import ENCODERS, forbid_misfit
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.registry import Config

DATA_VARIABLE = "MEDLEY_DATA"
# Where a run reads and writes, and beside what, does not change what it computes.
PLACES = ("data_root", "output_dir", "cache", "tracking", "workers")


class TrackingConfig(Config):
    """Where runs are tracked.

    store: "none" switches tracking off. uri: of the store; None means MLFLOW_TRACKING_URI, else
    ``mlflow.db`` in ``output_dir``. Its user, password and query are used, but written nowhere:
    better leave them in the environment (a server's: MLFLOW_TRACKING_USERNAME and _PASSWORD).
    system_metrics: processor, memory and network load every 10 s. log_models: keep one model for
    each experience. register_as: the last model of each run becomes a version of this name in the
    model registry.
    """

    store: Literal["mlflow", "none"] = "mlflow"
    uri: str | None = Field(default=None, repr=False)
    system_metrics: bool = False
    log_models: bool = True
    register_as: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")] | None = Field(
        default=None, exclude_if=lambda name: name is None
    )

    @model_validator(mode="after")
    def _a_registry_has_models(self) -> Self:
        if self.register_as is not None and (self.store == "none" or not self.log_models):
            raise ValueError("register_as needs store=mlflow and log_models=true")
        return self

    @field_serializer("uri")
    def _told(self, uri: str | None) -> str | None:
        """What is written down has no credentials; None where nothing of it can be told."""
        told = None if uri is None else shown(uri)
        return None if told is None or HIDDEN in told else told


class FileConfig(Config):
    """What a file given to a command holds.

    command: of ``medley``. marker: the key by which files for this command are known; what is
    listed under it are the rows of a table. alias: another such key, of a single row.
    """

    command: ClassVar[str] = ""
    marker: ClassVar[str] = ""
    alias: ClassVar[str] = ""


class CommandConfig(FileConfig):
    """What the config of every command has that makes runs.

    data_root: folder of the datasets, one folder each; None: environment MEDLEY_DATA.
    output_dir: runs go to ``<output_dir>/<experiment>/<config hash>``. cache: decoded signals in
    memory or on disk (``<output_dir>/cache``). skip_damaged: leave unreadable files out instead of
    refusing to start. quick: a short run for a first try, of one seed and some 500 recordings of
    a split. plugins: written by Medley: module -> digest of the source of the plug-ins that a run
    used; one that is another by now is refused.
    """

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    dataset: Annotated[Config, DATASETS.choice]
    tracking: TrackingConfig = TrackingConfig()
    data_root: str | None = None
    output_dir: str = "runs"
    cache: Literal["memory", "disk"] = "memory"
    skip_damaged: bool = False
    quick: bool = False
    plugins: dict[str, str] = Field(default_factory=dict, repr=False)

    def dump(self) -> dict[str, Any]:
        """Plain data, with the plug-ins as they are now, if there are any."""
        data = {key: value for key, value in super().dump().items() if key != "plugins"}
        found = plugins_of(self)
        return {**data, "plugins": found} if found else data

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.dump(), sort_keys=False, allow_unicode=True)

    @property
    def hash(self) -> str:
        """Identity of the run: 12 hex digits over everything that changes what it computes."""
        data = {k: v for k, v in self.dump().items() if k not in (*PLACES, "plugins")}
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def cells(self) -> Sequence[CommandConfig]:
        """One config a run, as far as that is known without looking at any file."""
        return []

    @property
    def title(self) -> str:
        """Of a cell, for people."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """``<output_dir>/<experiment>/<config hash>``."""
        return Path(self.output_dir).expanduser() / self.experiment / self.hash

    def dataset_root(self) -> Path:
        """The dataset's folder; UserError if neither it nor a data root is set."""
        root, folder = getattr(self.dataset, "root", None), getattr(self.dataset, "folder", "")
        if root is not None:
            return Path(root).expanduser()
        if getattr(self.dataset, "synthetic", False):
            return Path(self.output_dir) / "synthetic"
        name = self.dataset.registered_name
        if not folder:
            raise UserError(f"dataset.root: dataset {name!r} needs the folder of your data.")
        data_root = self.data_root or os.environ.get(DATA_VARIABLE)
        sought = getattr(self.dataset, "sought", (f"{folder}/",))
        if data_root is None and sought:
            raise UserError(
                f"data_root is not set: give data_root=FOLDER or the environment variable "
                f"{DATA_VARIABLE}, the folder that holds {' and '.join(sought)}, or "
                "dataset.root=FOLDER."
            )
        return Path(data_root or ".").expanduser() / folder


class SignalConfig(CommandConfig):
    """What the config of a command has that makes an encoder of its own."""

    modality: Annotated[Config, MODALITIES.choice] = Field(
        default_factory=lambda: MODALITIES.parse({})
    )
    encoder: Annotated[Config, ENCODERS.choice] = Field(default_factory=lambda: ENCODERS.parse({}))
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = (1,)

    @model_validator(mode="after")
    def _towers_of_modalities(self) -> Self:
        forbid_misfit(self.modality, self.encoder)
        return self

    def cells(self) -> list[Self]:
        """One config for each entry under the marker and each seed, in the order of a table."""
        return [
            self.model_copy(update={self.marker: (entry,), "seeds": (seed,)})
            for entry in getattr(self, self.marker)
            for seed in self.seeds
        ]

    @property
    def title(self) -> str:
        return f"{getattr(self, self.marker)[0].row_name} seed {self.seeds[0]}"


def refuse_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values themselves; ValueError if there is none, or one stands twice."""
    if not values:
        raise ValueError("list at least one")
    if any(v in values[:i] for i, v in enumerate(values)):
        raise ValueError("an entry is listed twice")
    return values
