"""What a run of ``medley bench`` leaves behind."""

from __future__ import annotations

from typing import Any

from continual.metrics import summary
from continual.online_metrics import AnytimePoint, AurocPoint, online_summary
from continual.prequential import prequential_metrics
from continual.scenarios import Stream
from continual.scenarios.si_blurry import realised
from continual.understanding import by_experience
from multimodal.recordings import Manifest


def score_name(manifest: Manifest) -> str:
    """What the score of a test set is: ``accuracy``, or ``macro_auroc`` for multi-label data."""
    return "macro_auroc" if manifest.multi_label else "accuracy"


def by_class_name(details: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What an evaluation tells of classes, with their names as keys."""
    details = dict(details)
    for key in ("per_class_accuracy", "per_class_auroc", "one_vs_rest_auroc", "per_class_counts"):
        if key in details:
            details[key] = dict(zip(names, details[key], strict=True))
    return details


def result_metrics(records: dict[str, Any], stream: Stream) -> dict[str, Any]:
    """The ``metrics`` of a result; those of the matrix are of AUROCs in multi-label streams."""
    matrix, baseline = records["matrix"], records["baseline"]
    details = by_class_name(records["details"], stream.manifest.class_names)
    multi_label = stream.manifest.multi_label
    # The same recordings are scored once for each experience's classes: equal weights.
    sizes = None if multi_label else [len(e.test) for e in stream.experiences]
    values = summary(matrix, sizes, baseline)
    if multi_label:
        averages = ("average_accuracy", "last_accuracy", "learning_accuracy")
        values = {key: value for key, value in values.items() if key not in averages}
    name = score_name(stream.manifest)
    matrix_key = "accuracy_matrix" if name == "accuracy" else "auroc_matrix"
    extra = {matrix_key: matrix, f"validation_{name}": records["validation"]}
    extra |= by_experience(records.get("understood", [])) | _unknown(records)
    return {**values, **details, **extra, **_zero_shot(records["zero_shot"])}


def _zero_shot(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Of learners that know texts: on classes to come, and on held-out ones, over the stream.

    The lists begin before training; ``future_zero_shot_accuracy`` is the mean after experiences.
    """
    found: dict[str, Any] = {}
    for name in ("future", "held_out"):
        series = [record[name] for record in records]
        if any(value is not None for value in series):
            found[f"{name}_zero_shot_by_experience"] = series
    future = [r["future"] for r in records[1:] if r["future"] is not None]
    if future:
        found["future_zero_shot_accuracy"] = sum(future) / len(future)
        chances = [r["future_chance"] for r in records[1:] if r["future_chance"] is not None]
        found["future_zero_shot_chance"] = sum(chances) / len(chances)
    if "held_out_zero_shot_by_experience" in found:
        found["held_out_zero_shot_accuracy"] = records[-1]["held_out"]
    rows = [record["parts"] for record in records if record.get("parts")]
    if rows:
        found |= {"held_out_zero_shot_matrix": rows, **_kept(rows)}
    return found


def _unknown(records: dict[str, Any]) -> dict[str, Any]:
    """How classes not met yet are told from those that were, if it was asked: the means over the
    experiences after which there are both, and the list of all, None elsewhere.
    """
    found: dict[str, Any] = {}
    for name in ("auroc", "fpr95") if "unknown" in records else ():
        series = [None if record is None else record[name] for record in records["unknown"]]
        defined = [value for value in series if value is not None]
        found[f"unknown_{name}"] = sum(defined) / len(defined) if defined else None
        found[f"unknown_{name}_by_experience"] = series
    return found


def _kept(rows: list[list[float]]) -> dict[str, float]:
    """What the space keeps of classes that no experience shows: row 0 stands before training, and
    column j is of the modality of experience j. Backward transfer is, of all modalities but the
    last, the mean of the last score minus the one after their own experience; forward transfer, of
    all but the first, that of the score before their own experience minus the untrained one.
    """
    last = len(rows) - 1
    if last < 2:
        return {}
    back = [rows[last][j] - rows[j + 1][j] for j in range(last - 1)]
    forth = [rows[j][j] - rows[0][j] for j in range(1, last)]
    means = {"backward": sum(back) / len(back), "forward": sum(forth) / len(forth)}
    return {f"held_out_zero_shot_{name}_transfer": value for name, value in means.items()}


def stream_facts(stream: Stream) -> dict[str, Any]:
    """What a result tells of its stream: experiences and, of an online one, what was drawn."""
    names = stream.manifest.class_names
    experiences = [
        {
            "name": e.name,
            "classes": [names[c] for c in e.classes],
            "num_train": len(e.train),
            "num_validation": len(e.validation),
            "num_test": len(e.test),
        }
        for e in stream.experiences
    ]
    return {"experiences": experiences, "stream": realised(stream) if stream.online else {}}


def online_metrics(records: dict[str, Any], stream: Stream) -> dict[str, Any]:
    """The metrics of an online run; ``anytime`` holds the raw counts that they are made of."""
    kind = AurocPoint if stream.manifest.multi_label else AnytimePoint
    periodic = [kind(**point) for point in records["periodic"]]
    at_end = None if records["at_end"] is None else kind(**records["at_end"])
    tasks = [kind(**point) for point in records["tasks"]]
    values = online_summary(periodic, at_end, tasks)
    if at_end is None:  # tested once only: there is no average to speak of
        values |= {key: None for key in values if key.startswith("a_avg")}
    assert stream.online is not None
    raw = {key: records[key] for key in ("periodic", "at_end", "tasks")}
    future = records.get("future", [])
    if future:
        raw["future"] = future
        values["future_zero_shot_accuracy"] = sum(p["score"] for p in future) / len(future)
        values["future_zero_shot_chance"] = sum(p["chance"] for p in future) / len(future)
    length, period = sum(len(e.train) for e in stream.experiences), stream.online.eval_period
    asked = prequential_metrics(records.get("prequential", {}), length, period)
    raw |= {key: asked.pop(key) for key in ("prequential",) if key in asked}
    values |= asked
    validation = records.get("validation", [])
    if any(score is not None for score in validation):
        values[f"validation_{score_name(stream.manifest)}"] = validation
    details = by_class_name(records["details"], stream.manifest.class_names)
    values |= _unknown(records)
    for texts in records.get("understood", []):  # of the last evaluation
        values |= texts
    return {**values, **details, "anytime": {"eval_period": stream.online.eval_period, **raw}}
