"""What is told to a tracking store: names, parameters, points in batches, the score matrix."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.reports.pictures import matrix_name, row_names
from benchmarks.reports.rows import row_name
from benchmarks.results.journal import Line
from benchmarks.results.result import Result

MAX_METRICS, MAX_KEY, MAX_VALUE = 1000, 250, 6000  # MLflow's limits: a batch; characters
MAX_PARAMS = 100  # likewise
MOST_CLASSES = 500  # of which each has metrics of its own
SINGULAR = {
    **{"learners": "learner", "objectives": "objective", "methods": "method"},
    **{"seeds": "seed", "models": "model"},
}


class Point(NamedTuple):
    """One metric value; time in milliseconds since the epoch."""

    name: str
    value: float
    step: int
    time: int


def metric_name(name: str) -> str:
    """``name`` as MLflow allows it for metrics and parameters: letters, digits, ``_ . - /`` and
    space, no empty or dotted path parts, at most 250 characters (the end becomes a digest)."""
    parts = [p for p in re.sub(r"[^\w/.\- ]", "_", name).split("/") if p]
    clean = "/".join("_" * len(p) if p in (".", "..") else p for p in parts) or "_"
    clean = re.sub(r"^\.\.", "__", clean)  # MLflow takes "..0" for a path out of its folder
    if len(clean) > MAX_KEY:
        clean = f"{clean[: MAX_KEY - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return clean


def flat_params(config: dict[str, Any]) -> dict[str, str]:
    """Nested config of a cell -> {"learner": "er", "learner.memory_size": "200", "seed": "1"}.

    What has a name is that name, with its settings behind it; a list of one such, or of one seed,
    is that one (``learners`` is ``learner`` then). Other lists, numbers and None as JSON, at most
    6000 characters.
    """
    return {metric_name(k): v[:MAX_VALUE] for k, v in _flat(config, "").items()}


def _flat(config: dict[str, Any], prefix: str) -> dict[str, str]:
    params: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, list) and len(value) == 1 and key in SINGULAR:
            key, value = SINGULAR[key], value[0]
        if isinstance(value, dict) and value:
            own = dict(value)
            if isinstance(name := own.get("name"), str):
                params[f"{prefix}{key}"] = name
                del own["name"]
            params |= _flat(own, f"{prefix}{key}.")
        else:
            params[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return params


def batches_of_params(params: dict[str, str]) -> Iterator[list[Any]]:
    """As MLflow's entities, as many as it takes at once."""
    from mlflow.entities import Param

    found = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(found), MAX_PARAMS):
        yield found[start : start + MAX_PARAMS]


def batches(lines: list[Line]) -> Iterator[tuple[int, list[Point]]]:
    """Group whole lines by at most 1000 values (a longer line stays whole): (lines, points)."""
    points: list[Point] = []
    count = 0
    for line in lines:
        if count and len(points) + len(line.metrics) > MAX_METRICS:
            yield count, points
            points, count = [], 0
        points += [Point(k, v, line.step, line.time) for k, v in line.metrics.items()]
        count += 1
    if count:
        yield count, points


def run_title(tags: dict[str, str], config: dict[str, Any]) -> str | None:
    """Name of the row, dataset and seed, as far as there are tags for them."""
    keys = ("medley.learner", "medley.dataset", "medley.seed")
    words = {key: tags[key] for key in keys if key in tags}
    if "medley.learner" in words:
        words["medley.learner"] = row_name(words["medley.learner"], config)
    return "-".join(words.values()) or None


def description(tags: dict[str, str], config: dict[str, Any]) -> str:
    """Of a run, for people who have only the store's page before them."""
    told = {key.removeprefix("medley."): value for key, value in tags.items()}
    learner = row_name(told.get("learner", ""), config)
    words = [f"{learner} on {told.get('dataset', '?')} ({told.get('modality', '?')})"]
    words += [f"scenario {told['scenario']}"] if "scenario" in told else []
    words += [f"seed {told['seed']}"] if "seed" in told else []
    lines = [", ".join(words) + "."]
    if "config_hash" in told:
        lines.append(f"`medley runs` calls it {told['config_hash']}; its config is config.yaml.")
    return "\n\n".join(lines)


def final_points(result: Result, *, step: int, time: int) -> list[Point]:
    """The metrics that are single numbers, and those of classes ("per_class_accuracy/dog")."""
    numbers = {k: v for k, v in result.metrics.items() if type(v) in (int, float)}
    for key, values in result.metrics.items():
        if key.startswith("per_class_") and isinstance(values, dict) and len(values) < MOST_CLASSES:
            numbers |= {f"{key}/{name}": v for name, v in values.items() if type(v) in (int, float)}
    return [Point(told, numbers[name], step, time) for name, told in apart(list(numbers)).items()]


def apart(names: Sequence[str]) -> dict[str, str]:
    """What each is called in the store: those that would be one ("a$b", "a%b") have a digest."""
    clean = {name: metric_name(name) for name in names}
    times = Counter(clean.values())
    digests = {name: hashlib.sha256(name.encode()).hexdigest()[:8] for name in names}
    return {
        name: f"{told[: MAX_KEY - 9]}-{digests[name]}" if times[told] > 1 else told
        for name, told in clean.items()
    }


def experience_names(result: Result) -> list[str]:
    """Distinct names: number from 1, then the experience's own name."""
    names = [str(e.get("name", "")) for e in result.experiences]
    return [f"{i} {name}".strip() for i, name in enumerate(names, start=1)]


def matrix_table(rows: list[list[float | None]], names: list[str]) -> dict[str, list[Any]]:
    """Columns of an accuracy matrix's table: "after", then one for each test set."""
    columns = {name: [row[j] for row in rows] for j, name in enumerate(names[: len(rows[0])])}
    return {"after": row_names(rows, names), **columns}


def matrix_tables(result: Result) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """(file name, columns) of a result's matrix, if it has one."""
    if result.matrix:
        table = matrix_table(result.matrix, experience_names(result))
        yield f"{matrix_name(result)}.json", table
