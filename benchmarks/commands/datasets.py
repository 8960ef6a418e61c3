"""What ``medley datasets`` does."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from benchmarks.config.base import DATA_VARIABLE, CommandConfig
from benchmarks.config.describe import settings_table
from benchmarks.config.loading import validate
from benchmarks.config.settings import override, typed
from multimodal.datasets import DATASETS, CasesConfig, DatasetConfig
from multimodal.downloads import Download
from multimodal.errors import UserError, did_you_mean
from multimodal.modalities import MODALITIES
from multimodal.recordings import Manifest
from multimodal.registry import Config


def print_datasets() -> None:
    """A table of all registered datasets."""
    table = Table(title="Datasets")
    for column in ("name", "modality", "what", "licence"):
        table.add_column(column)
    for name in DATASETS.names():
        config = DATASETS.config(name)
        assert issubclass(config, DatasetConfig)
        modalities = ", ".join(config.modalities)
        table.add_row(name, modalities, config.summary, config.licence)
    Console().print(table)


def describe(name: str) -> None:
    """Documentation, source, licence and settings of a dataset."""
    config = DATASETS.config(name)
    assert issubclass(config, DatasetConfig)
    out = Console()
    out.print(f"[bold]{name}[/bold]: {config.summary}")
    out.print(inspect.getdoc(config), markup=False)
    out.print(f"licence: {config.licence}\nhow to get it: {config.how_to_get}", markup=False)
    if config.downloads:
        out.print(f"or let medley do so: medley datasets get {name}", markup=False)
    out.print(settings_table(config))


def check(name: str, overrides: Sequence[str], *, root: Path | None, workers: int | None) -> None:
    """Check a local copy; UserError (exit code 2) if anything is wrong with it."""
    from multimodal.check import check as check_manifest

    dataset: dict[str, Any] = {"name": name}
    for each in overrides:
        override(dataset, each)
    if root is not None:
        dataset["root"] = str(root)
    data = typed({"experiment": "check", "dataset": dataset}, (), CommandConfig)
    config = validate(CommandConfig, data, source="datasets check")
    assert isinstance(config.dataset, DatasetConfig)
    out, errors = Console(), 0
    for manifest in _manifests(config.dataset, config.dataset_root(), out):
        rate = {} if manifest.made_rate is None else {"sample_rate": manifest.made_rate}
        modality: Any = MODALITIES.config(manifest.modality).parse(rate)
        adapter = modality.build()
        counts = expected(config.dataset)
        report = check_manifest(manifest, adapter, workers=workers, expected=counts)
        for line in report.lines():
            out.print(line, markup=False, soft_wrap=True)
        errors += len(report.errors)
    if errors:
        raise UserError(f"dataset {name!r}: {errors} error(s), listed above.")


def _manifests(dataset: DatasetConfig, root: Path, out: Console) -> list[Manifest]:
    """Of cases all modalities, or the one that is asked for, after how they were paired."""
    if not isinstance(dataset, CasesConfig):
        return [dataset.build(root)]
    cases = dataset.build_cases(root)
    out.print(f"{cases.name}: {cases.summary}", markup=False, soft_wrap=True)
    if dataset.modality is not None:
        return [dataset.build(root)]
    return list(cases.manifests.values())


def get(name: str, files: Sequence[str], *, root: Path | None) -> None:
    """Download a dataset, or some of its files, into its folder in ``root``; say what comes next.

    UserError (exit code 2) says how to get a dataset that is not open.
    """
    from multimodal import downloads
    from multimodal.downloads.transfers import Fetcher

    config = DATASETS.config(name)
    assert issubclass(config, DatasetConfig)
    if config.synthetic:
        print(f"{name} makes its own signals; there is nothing to get.")
        return
    if not config.downloads:
        raise UserError(f"dataset {name!r}: medley cannot download it. {config.how_to_get}")
    chosen = _chosen(config.downloads, files)
    data_root = root or os.environ.get(DATA_VARIABLE)
    if not data_root:
        raise UserError(
            f"no folder for {name!r}: give --root FOLDER or the environment variable "
            f"{DATA_VARIABLE}, the folder that will hold {config.folder}/."
        )
    folder = Path(data_root).expanduser() / config.folder
    console = Console(stderr=True)
    say = partial(console.print, markup=False, soft_wrap=True, highlight=False)
    say(f"{name}: {config.summary}\nlicence: {config.licence}\nsize: {_size(chosen)}")
    with _download_bar(console) as bar:
        downloads.get(chosen, folder, Fetcher(say=say, progress=partial(_show_bytes, bar)))
    for download in chosen:
        if download.by_hand and (folder / download.into / download.name).is_file():
            print(f"left to do: cd {shlex.quote(str(folder))} && {download.by_hand}")
    print(f"next: medley datasets check {name} --root {shlex.quote(str(folder))}")


def _chosen(downloads: Sequence[Download], files: Sequence[str]) -> list[Download]:
    """The downloads of these names, all if none is given; UserError for a name that is none."""
    by_name = {download.name: download for download in downloads}
    for file in files:
        if file not in by_name:
            raise UserError(f"there is no file {file!r}{did_you_mean(file, list(by_name))}")
    return [by_name[file] for file in dict.fromkeys(files)] or list(downloads)


def _size(downloads: Sequence[Download]) -> str:
    known = [download.bytes for download in downloads if download.bytes is not None]
    files = f"{len(downloads)} file(s)"
    if len(known) < len(downloads):
        return f"{files}, of sizes that the source will say"
    return f"{files}, {sum(known):,} bytes"


def _download_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show_bytes(bar: Progress, name: str, done: int, total: int | None) -> None:
    """One bar a file, made when its first bytes come."""
    tasks = {task.description: task.id for task in bar.tasks}
    task = tasks[name] if name in tasks else bar.add_task(name, completed=done, total=total)
    bar.update(task, completed=done, total=total)


def expected(dataset: Config) -> dict[str, int] | None:
    """Official counts by split, where the reader knows them."""
    counts = getattr(dataset, "expected_counts", None)
    return None if counts is None else counts()
