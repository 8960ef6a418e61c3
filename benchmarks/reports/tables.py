"""Rows and groups of results that tables and pages show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.reports.numbers import Interval, interval
from benchmarks.results.metric_names import METRICS, STREAM_METRICS
from benchmarks.results.result import Result
from multimodal.errors import UserError

# Config keys that do not change what a seed's numbers are an example of.
NOT_SETTINGS = ("seeds", "data_root", "output_dir", "cache", "tracking")
HEAD, WHITEN = "learner.head.", "learner.head.whiten"


@dataclass(frozen=True)
class Row:
    """One learner of a results table.

    learner: its name, ", whitened" with such a head; where it was run with several settings,
    followed by those that differ.
    seeds: number of runs. seconds: mean over the runs. values: an interval for each key of
    METRICS (fractions), or None where undefined; those of no stream only where present.
    """

    learner: str
    seeds: int
    seconds: float
    values: dict[str, Interval | None]


def comparable(results: Sequence[Result]) -> list[list[Result]]:
    """Groups that may share a table: same experiment, data, split, scenario, quick or not.

    Results of earlier versions do not say what their files held; they stand with those that do.
    """
    files = {hash_ for r in results if (hash_ := r.dataset.get("files_hash")) is not None}
    groups: dict[str, list[Result]] = {}
    for result in results:
        data = [result.dataset.get(key) for key in ("name", "version", "content_hash")]
        if len(files) > 1:
            data.append(result.dataset.get("files_hash"))
        stream = [result.scenario, result.config.get("scenario"), result.modality, result.quick]
        key = json.dumps(
            [result.experiment, data, result.dataset.get("split_rule"), stream], sort_keys=True
        )
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def by_learner(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Row label -> one run a seed, ascending, of comparable results, in the table's order.

    Runs of a learner whose other settings differ are different rows: they are no sample of one
    thing. Of two runs of the same row and seed (a copied folder) the later started counts.
    Order: that in which they were first started, which is the config's.
    Raises UserError if the results are not comparable.
    """
    if len(comparable(results)) != 1:
        raise UserError(
            f"{len(results)} results of {len(comparable(results))} different experiments, data "
            "sets, streams or sizes do not fit one table; give the folder of one of them."
        )
    order = [result.learner for result in sorted(results, key=lambda r: r.started)]
    rows: dict[str, dict[int, Result]] = {}
    for name in dict.fromkeys(order):
        runs = [result for result in results if result.learner == name]
        labels = _labels(name, runs)
        for label, result in sorted(zip(labels, runs, strict=True), key=lambda x: x[1].started):
            rows.setdefault(label, {})[result.seed] = result
    return {label: [runs[seed] for seed in sorted(runs)] for label, runs in rows.items()}


def _labels(name: str, runs: list[Result]) -> list[str]:
    """The learner's name, with the settings in which its runs differ, for each run.

    What else is set of a head is told of whitened ones alone.
    """
    settings = [_settings(run) for run in runs]
    white = [each.pop(WHITEN, "false") == "true" for each in settings]
    keys = dict.fromkeys(key for each in settings for key in each)
    apart: dict[str, list[bool]] = {}
    for key in keys:
        told = white if key.startswith(HEAD) else [True] * len(runs)
        values = {each.get(key) for each, tell in zip(settings, told, strict=True) if tell}
        if len(values) > 1:
            apart[key] = told
    labels = []
    for i, each in enumerate(settings):
        here = [key for key, told in apart.items() if told[i]]
        words = [f"{_short(key, list(apart))}={each.get(key, 'default')}" for key in here]
        label = f"{name}, whitened" if white[i] else name
        labels.append(f"{label} ({', '.join(words)})" if words else label)
    return labels


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a dotted key, if that tells it from the others."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key


def _settings(result: Result) -> dict[str, str]:
    """Dotted key -> value in JSON of everything that defines a run but its seed."""
    config = {k: v for k, v in result.config.items() if k not in NOT_SETTINGS}
    entries = config.pop("learners", None) or []
    own = [entry for entry in entries if _learner_name(entry) == result.learner]
    flat: dict[str, str] = {}

    def flatten(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                flatten(part, (*path, str(key)))
        else:
            flat[".".join(path)] = value if isinstance(value, str) else json.dumps(value)

    flatten(config, ())
    for entry in own:
        flatten(entry if isinstance(entry, dict) else {"name": entry}, ("learner",))
    return flat


def _learner_name(entry: object) -> str:
    return str(entry.get("name")) if isinstance(entry, dict) else str(entry)


def summarise(results: Sequence[Result]) -> list[Row]:
    """One row per learner of comparable results, over its seeds; UserError otherwise."""
    rows = []
    for label, runs in by_learner(results).items():
        values = {key: interval([run.metrics.get(key) for run in runs]) for key in METRICS}
        always = STREAM_METRICS if runs[0].matrix else ()
        values = {k: v for k, v in values.items() if v is not None or k in always}
        seconds = sum(run.seconds for run in runs) / len(runs)
        rows.append(Row(label, len(runs), seconds, values))
    return rows


def columns(rows: Sequence[Row]) -> list[str]:
    """Metric keys that a table of these rows has: those that some row has."""
    return [key for key in METRICS if any(key in r.values for r in rows)]


def data_title(result: Result) -> str:
    """Dataset, version, and the words "synthetic" and "quick" where they apply."""
    dataset = result.dataset
    words = [f"{dataset.get('name', 'unknown data')} {dataset.get('version', '')}".strip()]
    words += ["synthetic"] if dataset.get("synthetic") else []
    words += ["quick"] if result.quick else []
    return ", ".join(words)


def short_title(result: Result) -> str:
    """The dataset's name, and the words "synthetic" and "quick" where they apply."""
    name = str(result.dataset.get("name", "unknown data"))
    words = ["synthetic"] if result.dataset.get("synthetic") and "synthetic" not in name else []
    return ", ".join([name, *words, *["quick"] * result.quick])
