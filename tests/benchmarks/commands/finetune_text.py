"""A small config of ``medley finetune``, on the recordings of ``tiny``, and its results."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results.result import Result

FINETUNE = """\
experiment: tuned
dataset: {name: folder, root: clips, modality: speech}
encoder: {name: compact, width: 16, depth: 1, heads: 2}
methods: [lora]
training: {epochs: 2, batch_size: 4, device: cpu, log_every: 1}
tracking: {store: none}
"""


def results(place: Path, out: str = "runs") -> dict[str, Result]:
    found = [Result.load(f.parent) for f in sorted(place.glob(f"{out}/tuned/*/result.json"))]
    return {result.learner: result for result in found}
