"""Rows and groups of results that tables and pages show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reports.numbers import Interval, interval
from benchmarks.reports.rows import labels
from benchmarks.results.metric_names import METRICS, STREAM_METRICS
from benchmarks.results.result import Result
from multimodal.errors import UserError


@dataclass(frozen=True)
class Row:
    """One learner of a results table.

    learner: what the row is called, see ``rows.labels``.
    seeds: number of runs. seconds: mean over the runs. values: an interval for each key of
    METRICS (fractions), or None where undefined; those of no stream only where present.
    """

    learner: str
    seeds: int
    seconds: float
    values: dict[str, Interval | None]


def comparable(results: Sequence[Result]) -> list[list[Result]]:
    """Groups that may share a table: same experiment, data, split, scenario, quick or not; in the
    order in which they were first started.

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
    return sorted(groups.values(), key=lambda group: min(run.started for run in group))


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
    named = sorted(zip(labels(results), results, strict=True), key=lambda x: x[1].started)
    learners = list(dict.fromkeys(result.learner for _, result in named))
    rows: dict[str, dict[int, Result]] = {}
    for label, result in sorted(named, key=lambda x: learners.index(x[1].learner)):
        rows.setdefault(label, {})[result.seed] = result
    return {label: [runs[seed] for seed in sorted(runs)] for label, runs in rows.items()}


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
