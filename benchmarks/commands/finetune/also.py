"""What fine-tuning cost: the encoder on other data, before and after (``evaluate_also``).

The measure is a linear probe: a logistic regression of the same strength, fitted by L-BFGS from
zero on the training recordings' embeddings, with the test recordings' accuracy. Fine-tuning
replaces the head, so the head's own accuracy on other classes is not defined; and zero-shot needs a
text tower, which most encoders here have not. The probe asks what a frozen encoder still tells
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
from multimodal.evaluation.linear_probe import LabelledSet, linear_probe
from multimodal.loader import Loader
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


Probed = dict[str, tuple[float, float, float]]  # dataset -> accuracy, low, high


def read_others(config: FinetuneConfig) -> list[Manifest]:
    """UserError: another modality, several labels a recording, no test split, a single class."""
    manifests = []
    for dataset in config.evaluate_also:
        manifest = read_manifest(config.model_copy(update={"dataset": dataset}))
        train, test = manifest.indices("train"), manifest.indices("test")
        problem = None
        if manifest.multi_label:
            problem = "its recordings have several labels"
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


def open_others(config: FinetuneConfig, manifests: Sequence[Manifest]) -> list[Other]:
    """Decoded."""
    others = []
    for dataset, manifest in zip(config.evaluate_also, manifests, strict=True):
        data = open_data(config.model_copy(update={"dataset": dataset}), manifest)
        rows = [data.signals.usable(manifest.indices(s)[:MOST]) for s in ("train", "test")]
        others.append(Other(data, *rows))
    return others


def probe(reader: Reader, others: list[Other], *, size: int, device: torch.device) -> Probed:
    """Accuracy of each, with its 95 % interval. size: recordings embedded at once."""
    training, found = reader.training, {}
    reader.eval()
    for other in others:
        loader, labels = Loader(other.data.signals.gather, device), other.data.manifest.labels
        known, tested = (
            LabelledSet(embed_rows(reader.encode, loader, rows, batch_size=size), labels[rows])
            for rows in (other.train, other.test)
        )
        result = linear_probe(known, tested, other.data.manifest.num_classes, replicates=REPLICATES)
        low, high = result.intervals["linear_probe_accuracy"]
        found[other.name] = (result.metrics["linear_probe_accuracy"], low, high)
    reader.train(training)
    return found


def cost(before: Probed, after: Probed) -> tuple[dict[str, float], dict[str, object]]:
    """Metrics, means over the datasets, and the details of each."""
    if not after:
        return {}, {}
    metrics = {
        f"other_accuracy_{when}": float(np.mean([value for value, _, _ in found.values()]))
        for when, found in (("before", before), ("after", after))
    }
    details = {name: {"before": list(before[name]), "after": list(after[name])} for name in after}
    return metrics, {"other_data": details}
