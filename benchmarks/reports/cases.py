"""What is told of runs over cases (X-ray, ECG and report of a patient): modalities and directions.

One table has a line for each modality (zero-shot over prompt sets, probes), one for each direction
of retrieval, with chance and the size of the gallery beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

from benchmarks.reports.numbers import interval, percent
from benchmarks.reports.parts import Part
from benchmarks.reports.tables import by_learner
from benchmarks.results.result import Result

# Key after the prefix -> heading; chance of what stands before it.
ZERO_SHOT = {
    "zero_shot_macro_auroc": "zero-shot\nmacro AUROC",
    "zero_shot_macro_auroc_sd": "sd over\nprompts",
    "zero_shot_mean_average_precision": "average\nprecision",
    "zero_shot_mean_average_precision_chance": "(chance)",
    "linear_probe_macro_auroc": "linear\nprobe",
    "random_encoder_macro_auroc": "random\nencoder",
}
RETRIEVAL = {
    "recall_at_1": "R@1",
    "chance_recall_at_1": "(chance)",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "chance_recall_at_10": "(chance)",
    "median_rank": "median\nrank",
    "mean_reciprocal_rank": "MRR",
    "label_precision_at_10": "label\nP@10",
    "chance_label_precision": "(chance)",
    "gallery_size": "gallery",
    "num_queries": "queries",
}
NUMBERS = {"median_rank": "{:.1f}", "gallery_size": "{:.0f}", "num_queries": "{:.0f}"}
CAPTION = (
    "%, mean ± half width of the 95 % interval over seeds; of one seed its 95 % interval over "
    "patients"
)


def case_parts(group: Sequence[Result]) -> list[Part]:
    """The tables of comparable results; none where they are not of cases."""
    modalities = group[0].modality.split("+")
    if len(modalities) < 2:
        return []
    learners = by_learner(group)
    views = [*modalities, "text"]
    directions = {f"{a} to {b}": f"{a}_to_{b}_" for a, b in permutations(views, 2)}
    protocol = dict.fromkeys(
        words for result in group for words in result.evaluation.get("protocol", {}).values()
    )
    emergent = [f"{a} to {b}" for a, b in permutations(modalities, 2)]
    return [
        _part(
            "Modalities, zero-shot and probed",
            learners,
            {name: f"{name}_" for name in modalities},
            ZERO_SHOT,
            f"prompts: {' / '.join(protocol)}" if protocol else "",
        ),
        _part(
            "Retrieval, many right answers a query, ties against the model",
            learners,
            directions,
            RETRIEVAL,
            f"emergent, compared by no loss where the text is the anchor: {', '.join(emergent)}",
        ),
    ]


def _part(
    title: str,
    learners: Mapping[str, list[Result]],
    prefixes: Mapping[str, str],
    keys: Mapping[str, str],
    note: str,
) -> Part:
    rows, texts = [], {key: [] for key in keys}
    for words, prefix in prefixes.items():
        for label, runs in learners.items():
            cells = {key: _cell(runs, f"{prefix}{key}", NUMBERS.get(key)) for key in keys}
            if all(cell == "–" for cell in cells.values()):
                continue
            rows.append((words, label))
            for key, cell in cells.items():
                texts[key].append(cell)
    shown = [key for key in keys if any(cell != "–" for cell in texts[key])]
    columns = [(keys[key], texts[key]) for key in shown]
    return Part(title, rows, columns, f"{CAPTION}. {note}")


def _cell(runs: Sequence[Result], key: str, form: str | None) -> str:
    values = [run.metrics.get(key) for run in runs]
    mean = interval(values)
    if mean is None:
        return "–"
    show = form.format if form else percent
    spans = runs[0].evaluation.get("intervals", {})
    if len(runs) == 1 and key in spans:
        low, high = spans[key]
        return f"{show(mean.mean)} ({show(low)}–{show(high)})"
    fact = mean.half_width is None or key.endswith(("_chance", "_sd", "size", "queries"))
    width = "" if fact or "chance" in key else f" ± {show(mean.half_width or 0.0)}"
    return f"{show(mean.mean)}{width}"
