"""Result: what one run leaves behind, complete without MLflow (``result.json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from multimodal.datasets.splits import BY_SEED
from multimodal.digests import DamagedFile, read_sealed, sealed
from multimodal.files import write_atomically

RESULT_FILE = "result.json"
BY_SCENARIO = {"alignment": "align", "zero_shot": "zeroshot"}
SEED_OF_VALIDATION = re.compile(r"(?<=; validation: )(\S+ of train), seed \d+$")


@dataclass(frozen=True)
class Result:
    """One cell of a benchmark: one learner, one seed.

    command: of ``medley``, that makes such a result. config: the cell's config as plain data;
    config_hash: its identity. dataset: name, version,
    content_hash, split_rule, licence, synthetic, group_overlap. experiences: for each, ``name``,
    ``classes`` (class names), ``num_train``, ``num_test``. metrics: DESIGN's keys, fractions in
    [0, 1] or None where undefined; ``accuracy_matrix`` is a list of rows (row: after experience i,
    column: test set of experience j); ``per_class_accuracy`` maps class name to fraction;
    ``confusion_matrix`` is a list of rows (row: true class, column: predicted) after the last
    experience; of more than 256 classes ``confusion_cells`` lists (true, predicted, count) where
    the count is not 0 (classes as places in ``class_names``; behind the last: no class).
    Multi-label streams have ``auroc_matrix``, ``per_class_auroc``, ``macro_auroc``,
    ``mean_average_precision`` and ``num_scored_classes`` instead, and ``forgetting`` and the
    transfers are of AUROCs. evaluation: of alignment and zero-shot runs, all that their scores
    depend on (texts, recordings, crops, numerics) and what a page shows of them; of streams
    ``parameters`` of the model: total, trained, stored in its file. stream: of online
    ones, what was drawn (``scenarios.si_blurry.realised``). inputs: setting -> digest of the files
    that the run read (None: of an earlier version, which did not note it). seconds: training
    and evaluation of this run, over all resumptions; cpu_seconds: the same on the processor, of all
    threads (None: of an earlier version).
    peak_memory_bytes: "process", the highest resident size of this process so far (earlier cells
    of a grid count), and, on a GPU, "device", the highest allocation of this run.
    """

    command: str
    experiment: str
    config_hash: str
    learner: str
    scenario: str
    modality: str
    seed: int
    quick: bool
    dataset: dict[str, Any]
    class_names: list[str]
    experiences: list[dict[str, Any]]
    metrics: dict[str, Any]
    config: dict[str, Any]
    evaluation: dict[str, Any] = field(default_factory=dict)
    stream: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] | None = None
    hardware: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    started: str = ""
    seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def matrix(self) -> list[list[float | None]] | None:
        """The accuracy matrix, or the AUROC matrix of a multi-label stream, if there is one."""
        return self.metrics.get("accuracy_matrix") or self.metrics.get("auroc_matrix")

    @property
    def score(self) -> str:
        """In words, what the matrix is of."""
        return "macro AUROC" if "auroc_matrix" in self.metrics else "accuracy"

    def save(self, folder: Path) -> None:
        """Write ``result.json`` in ``folder``, replaced atomically."""
        write_atomically(folder / RESULT_FILE, sealed(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``result.json`` of a run folder. DamagedFile: it is not as it was written."""
        data = read_sealed(folder / RESULT_FILE)
        # Earlier versions wrote none.
        command = BY_SCENARIO.get(str(data.get("scenario")), "bench")
        try:
            result = cls(**{"command": command, **data})
        except TypeError as error:
            raise DamagedFile(f"{folder / RESULT_FILE} is damaged ({error})") from error
        _without_seed(result.dataset)
        return result


def _without_seed(dataset: Any) -> None:
    """Earlier versions named the run's seed in the rule of the split, so no two seeds had one."""
    rule = dataset.get("split_rule") if isinstance(dataset, dict) else None
    if isinstance(rule, str):
        dataset["split_rule"] = SEED_OF_VALIDATION.sub(rf"\1{BY_SEED}", rule)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """A file of JSON lines, replaced atomically."""
    text = "".join(json.dumps(dict(line), ensure_ascii=False) + "\n" for line in lines)
    write_atomically(path, text)
