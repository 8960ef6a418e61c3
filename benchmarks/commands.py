"""What the commands of ``cli.py`` do."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.config import RunConfig, apply_override, load_config, validate
from benchmarks.result import RESULT_FILE, Result
from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.registry import Config


def run_bench(path: Path, overrides: Sequence[str], *, fresh: bool = False) -> None:
    """Run a grid, then print its table and say where to look."""
    from benchmarks.grid import Grid
    from benchmarks.progress import TerminalObserver
    from benchmarks.report import find_results, print_table, write_html
    from benchmarks.tracking_data import default_uri, shown

    config = load_config(path, overrides)
    console = Console(stderr=True)
    grid = Grid(config, fresh=fresh)
    for number, words in enumerate(grid.data.signals.damaged.values()):
        console.print(words if number < 10 else "...", markup=False, soft_wrap=True)
        if number == 10:
            break
    results = []
    with TerminalObserver(console) as observer:
        for number, cell in enumerate(grid.cells, start=1):
            observer.title = (
                f"[{number}/{len(grid.cells)}] {cell.learners[0].registered_name} "
                f"seed {cell.seeds[0]}"
            )
            reused = grid.done[number - 1] is not None
            result = grid.run_cell(number - 1, observer)
            if reused:
                console.print(f"{observer.title}: done before, result reused")
            results.append(result)
    out = Console()
    print_table(results, out)
    # The page shows every run of the experiment, also those of other seeds and settings.
    folder = config.folder.parent
    page = write_html(find_results(folder), folder / "report.html")
    out.print(f"Report: {page}", markup=False, soft_wrap=True, highlight=False)
    if config.tracking.store == "mlflow":
        uri = shown(config.tracking.uri or default_uri(Path(config.output_dir)))
        out.print(
            f"MLflow: experiment {config.experiment!r} in {uri}; look with: "
            f"mlflow ui --backend-store-uri {uri}",
            markup=False,
            soft_wrap=True,
            highlight=False,
        )


def run_report(path: Path, *, resend_runs: bool = False, uri: str | None = None) -> None:
    """Tables and pages of what is found below ``path``, one of each an experiment."""
    from benchmarks.report import find_results, print_table, write_html
    from benchmarks.tracking import resend

    out = Console()
    if resend_runs:
        # Also runs without a result: interrupted, failed, diverged.
        for folder in run_folders(path):
            out.print(resend(folder, uri=uri), markup=False, soft_wrap=True, highlight=False)
        if not any((folder / RESULT_FILE).is_file() for folder in run_folders(path)):
            return
    experiments: dict[Path, list[Result]] = {}
    for result in find_results(path):
        experiments.setdefault(result_folder(path, result).parent, []).append(result)
    for folder, results in experiments.items():
        print_table(results, out)
        page = path if (path / RESULT_FILE).is_file() else folder
        written = write_html(results, page / "report.html")
        out.print(f"Report: {written}", markup=False, soft_wrap=True, highlight=False)


def run_folders(path: Path) -> list[Path]:
    """Run folders at or below ``path`` with something to send; UserError if there is none."""
    from benchmarks.tracking_data import TRACKING_FILE

    files = [f for name in (TRACKING_FILE, RESULT_FILE) for f in path.rglob(name)]
    if not files:
        raise UserError(f"{path}: no run in it (no {TRACKING_FILE} and no {RESULT_FILE}).")
    return sorted({file.parent for file in files})


def result_folder(path: Path, result: Result) -> Path:
    """The run folder of a result that was found below ``path``."""
    for folder in (path, path / result.config_hash, path / result.experiment / result.config_hash):
        if (folder / RESULT_FILE).is_file():
            return folder
    raise UserError(f"{path}: run folder {result.config_hash} was renamed; give it its name back.")


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
    table = Table(title="settings")
    for column in ("key", "type", "default"):
        table.add_column(column)
    for key, field in config.model_fields.items():
        default = "(required)" if field.is_required() else repr(field.get_default())
        table.add_row(key, Text(_type_name(field.annotation)), Text(default))
    out.print(table)


def _type_name(annotation: Any) -> str:
    return getattr(annotation, "__name__", "") if isinstance(annotation, type) else str(annotation)


def check(name: str, overrides: Sequence[str], *, root: Path | None, workers: int | None) -> None:
    """Check a local copy; UserError (exit code 2) if anything is wrong with it."""
    from multimodal.check import check as check_manifest

    data: dict[str, Any] = {"experiment": "check"}
    dataset: dict[str, Any] = {"name": name}
    for override in overrides:
        apply_override(dataset, override)
    if root is not None:
        dataset["root"] = str(root)
    data |= {"dataset": dataset, "learners": ["majority"]}
    data["scenario"] = {"name": "class_incremental", "num_experiences": 1}
    config = validate(RunConfig, data, source="datasets check")
    assert isinstance(config.dataset, DatasetConfig)
    manifest = config.dataset.build(config.dataset_root())
    adapter = MODALITIES.config(manifest.modality)().build()  # pyright: ignore
    report = check_manifest(manifest, adapter, workers=workers, expected=expected(config.dataset))
    out = Console()
    for line in report.lines():
        out.print(line, markup=False, soft_wrap=True)
    if not report.ok:
        raise UserError(f"dataset {name!r}: {len(report.errors)} error(s), listed above.")


def expected(dataset: Config) -> dict[str, int] | None:
    """Official counts by split, where the reader knows them."""
    counts = getattr(dataset, "expected_counts", None)
    return None if counts is None else counts()


def show(path: Path, overrides: Sequence[str]) -> None:
    """Print the whole config as YAML, and where each run would go."""
    config = load_config(path, overrides)
    sys.stdout.write(yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True))
    for cell in config.cells():
        name, seed = cell.learners[0].registered_name, cell.seeds[0]
        print(f"# {name} seed {seed}: {cell.folder}")


def print_schema() -> None:
    """Print the JSON Schema of a config file."""
    print(json.dumps(RunConfig.model_json_schema(), indent=1))
