"""What fine-tuning cost: the encoder on other data, before and after (``evaluate_also``).

The measure is a linear probe: a logistic regression of the same strength, fitted by L-BFGS from
zero on the training recordings' embeddings, with the test recordings' accuracy. Fine-tuning
replaces the head, so the head's own accuracy on other classes is not defined; and zero-shot needs a
text tower, which most encoders here have not. Of several labels a recording it is one such probe a
class, and the measure their macro AUROC. The probe asks what a frozen encoder still tells
apart, by one protocol for every method, task and modality; it has no random numbers, so a
difference is the encoder's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.runs.data import Data, open_data, read_manifest
from multimodal.errors import UserError
from multimodal.evaluation.embeddings import embed_rows
from multimodal.evaluation.linear_probe import (
    LabelledSet,
    linear_probe,
    multi_label_probe,
)
from multimodal.evaluation.multi_label import macro
from multimodal.loader import Loader
from multimodal.models.align_task import numbered
from multimodal.models.towers import Reader
from multimodal.recordings import Manifest

MOST = 20_000  # recordings of a split; a probe of more takes too long
REPLICATES = 1_000


@dataclass(frozen=True)
class Other:
    """One of the other datasets, decoded. train, test: rows."""

    data: Data
    train: np.ndarray
    test: np.ndarray

    @property
    def name(self) -> str:
        return self.data.manifest.name


# dataset -> accuracy, or macro AUROC of several labels, low, high
Probed = dict[str, tuple[float, float, float]]


def read_others(config: FinetuneConfig) -> list[Manifest]:
    """UserError: another modality, no test split, a single class, or, of several labels, no class
    with recordings of both kinds.
    """
    manifests = []
    for dataset in config.evaluate_also:
        manifest = read_manifest(config.model_copy(update={"dataset": dataset}))
        train, test = (manifest.indices(split)[:MOST] for split in ("train", "test"))
        problem = None
        if manifest.multi_label:
            if not (_told_apart(manifest, train) & _told_apart(manifest, test)).any():
                problem = "no class has positive and negative recordings in both splits"
        elif not len(test) or len(np.unique(manifest.labels[train])) < 2:
            problem = "it has no test split, or fewer than two training classes"
        if problem:
            raise UserError(
                f"evaluate_also: dataset {manifest.name!r} cannot be probed: {problem}; leave "
                "it out."
            )
        manifests.append(manifest)
    names = [manifest.name for manifest in manifests]
    if len(set(names)) < len(names):
        raise UserError(f"evaluate_also: {names} are not different datasets; list each once.")
    return manifests


def _told_apart(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """(C,) bool: classes with positive and negative recordings among these."""
    targets = manifest.targets[rows]
    return (targets == 1).any(axis=0) & (targets == 0).any(axis=0)


def open_others(config: FinetuneConfig, manifests: Sequence[Manifest]) -> list[Other]:
    """Decoded."""
    others = []
    for dataset, manifest in zip(config.evaluate_also, manifests, strict=True):
        other = config.model_copy(update={"dataset": dataset})
        data = open_data(other, manifest, features=True)
        rows = [data.signals.usable(manifest.indices(s)[:MOST]) for s in ("train", "test")]
        others.append(Other(data, *rows))
    return others


def probe(reader: Reader, others: list[Other], *, size: int, device: torch.device) -> Probed:
    """Accuracy or macro AUROC of each, with its 95 % interval. size: of batches."""
    training, found = reader.training, {}
    reader.eval()
    for other in others:
        loader, manifest = Loader(other.data.signals.gather, device), other.data.manifest
        known, tested = (
            embed_rows(reader.encode, loader, rows, batch_size=size)
            for rows in (other.train, other.test)
        )
        measure = _macro_auroc if manifest.multi_label else _accuracy
        found[other.name] = measure(manifest, (known, other.train), (tested, other.test))
    reader.train(training)
    return found


Part = tuple[torch.Tensor, np.ndarray]  # embeddings (N, D) of rows (N,)


def _accuracy(manifest: Manifest, train: Part, test: Part) -> tuple[float, float, float]:
    known, tested = (LabelledSet(e, manifest.labels[rows]) for e, rows in (train, test))
    result = linear_probe(known, tested, manifest.num_classes, replicates=REPLICATES)
    low, high = result.intervals["linear_probe_accuracy"]
    return result.metrics["linear_probe_accuracy"], low, high


def _macro_auroc(manifest: Manifest, train: Part, test: Part) -> tuple[float, float, float]:
    targets, (tested, rows) = manifest.targets, test
    groups = [str(number) for number in numbered(manifest.groups[rows])]
    result = multi_label_probe(
        *(train[0], targets[train[1]], tested, targets[rows]),
        groups=groups,
        replicates=REPLICATES,
    )
    value = macro(result.areas)
    assert value is not None
    return value, *result.intervals["macro_auroc"]


def cost(
    others: Sequence[Other], before: Probed, after: Probed
) -> tuple[dict[str, float], dict[str, object]]:
    """Metrics, means over the datasets of one measure, and the details of each."""
    if not after:
        return {}, {}
    several = {other.name: other.data.manifest.multi_label for other in others}
    metrics = {}
    for measure, multi in (("accuracy", False), ("auroc", True)):
        for when, found in (("before", before), ("after", after)):
            values = [value for name, (value, _, _) in found.items() if several[name] == multi]
            if values:
                metrics[f"other_{measure}_{when}"] = float(np.mean(values))
    details = {name: {"before": list(before[name]), "after": list(after[name])} for name in after}
    return metrics, {"other_data": details}
