"""Finding and reading ``result.json`` files, which users may have moved, copied or edited."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import RESULT_FILE, Result
from multimodal.digests import DamagedFile
from multimodal.errors import UserError

REMEDY = "restore it, or delete it and repeat the run, which goes on from its last checkpoint"


def find_results(path: Path) -> list[Result]:
    """Results below an output folder, an experiment's folder or one run's folder, by path.

    Raises UserError if there is none, or naming the ``result.json`` that cannot be used.
    """
    for pattern in (RESULT_FILE, f"*/{RESULT_FILE}", f"*/*/{RESULT_FILE}"):
        files = sorted(path.glob(pattern))
        if files:
            return [load_result(file) for file in files]
    problem = "holds no finished run" if path.is_dir() else "is not a folder"
    raise UserError(
        f"{path} {problem}: expected an output folder with <experiment>/<config hash>/"
        f"{RESULT_FILE}, an experiment's folder or one run's folder."
    )


def only_run(path: Path) -> Path:
    """A finished run's folder: this one, or the only one in an experiment's folder.

    UserError: none there, or several, which are named.
    """
    if (path / RESULT_FILE).is_file():
        return path
    found = sorted(p.parent for p in path.glob(f"*/{RESULT_FILE}")) if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    if found:
        runs = [(folder, load_result(folder / RESULT_FILE)) for folder in found[:8]]
        names = ", ".join(f"{p.name} ({r.learner}, seed {r.seed})" for p, r in runs)
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        raise UserError(f"{path} holds several runs; name one: {names}{more}.")
    state = "holds no finished run" if path.is_dir() else "is not a folder"
    raise UserError(f"{path} {state}; give a run's folder, such as runs/<experiment>/<hash>.")


def load_result(file: Path) -> Result:
    """A ``result.json``; DamagedFile naming it if it is damaged."""
    try:
        result = Result.load(file.parent)
        result = TypeAdapter(Result).validate_python(asdict(result))
        _check_metrics(result)
    except DamagedFile as error:
        raise DamagedFile(f"{error}: {REMEDY}.") from error
    except (ValueError, TypeError) as error:
        problem = " ".join(str(error).split())
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            problem = ".".join(map(str, first["loc"])) + ": " + first["msg"]
        raise DamagedFile(f"{file} is damaged ({problem}): {REMEDY}.") from error
    return result


def _fraction(value: float) -> float:
    if value < 0 or value > 1:  # NaN, an undefined cell, passes
        raise ValueError("must be a fraction in [0, 1]")
    return value


_TABLES = {
    "accuracy_matrix": TypeAdapter(
        list[list[Annotated[float, AfterValidator(_fraction)] | None]] | None
    ),
    "confusion_matrix": TypeAdapter(list[list[NonNegativeInt]] | None),
    "confusion_cells": TypeAdapter(list[tuple[NonNegativeInt, NonNegativeInt, PositiveInt]] | None),
}
_COUNTS = TypeAdapter(dict[str, list[NonNegativeInt]] | None)
_TABLES["auroc_matrix"] = _TABLES["accuracy_matrix"]


def _check_metrics(result: Result) -> None:
    """ValueError if a metric that a report shows is no number or does not fit the run."""
    steps, classes = len(result.experiences), len(result.class_names)
    TypeAdapter(list[int]).validate_python([e.get("num_test") for e in result.experiences])
    sizes = {
        "accuracy_matrix": {(1, steps), (steps, steps)},
        "auroc_matrix": {(1, steps), (steps, steps)},
        # The extra column counts answers that name no class.
        "confusion_matrix": {(classes, classes), (classes, classes + 1)},
    }
    for key, fitting in sizes.items():
        rows = _TABLES[key].validate_python(result.metrics.get(key))
        if rows is not None and ({(len(rows), len(row)) for row in rows} or {(0, 0)}) - fitting:
            raise ValueError(f"metrics.{key} does not fit {steps} experiences, {classes} classes")
    cells = _TABLES["confusion_cells"].validate_python(result.metrics.get("confusion_cells"))
    if any(true >= classes or predicted > classes for true, predicted, _ in cells or ()):
        raise ValueError(f"metrics.confusion_cells does not fit {classes} classes")
    numbers = {key: result.metrics.get(key) for key in METRICS}
    TypeAdapter(dict[str, float | None]).validate_python(numbers)
    for key in ("per_class_accuracy", "per_class_auroc", "one_vs_rest_auroc"):
        TypeAdapter(dict[str, float | None] | None).validate_python(result.metrics.get(key))
    for key, length in (("per_class_counts", 2), ("per_class_confusion", 4)):
        found = _COUNTS.validate_python(result.metrics.get(key)) or {}
        if any(len(counts) != length for counts in found.values()):
            raise ValueError(f"metrics.{key} has not {length} counts a class")
