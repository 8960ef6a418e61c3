"""Task ``classify``: a linear head for the dataset's labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.encoder import Parts
from benchmarks.commands.finetune.scoring import (
    HALF,
    best_thresholds,
    counts_at,
    multi_label_scores,
    single_label_scores,
)
from benchmarks.commands.finetune.start import Start
from benchmarks.results.model_folder import HEAD_FILE, read_head
from benchmarks.runs.data import Data
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.evaluation.scores import Scores
from multimodal.loader import Loader
from multimodal.models.classify_task import ClassifyTask, LinearClassifier, positive_weights
from multimodal.models.whitening import Whitening
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache
from multimodal.training.processes import is_first, share_weights

MOST_COUNTED = 4096  # recordings that are whitened by, or from which an offset is chosen
# Directions of less than a tenth of the mean variance are noise where recordings are few.
WHITE_EPS = 0.1


class Classify:
    """One cell's model, task and scores. rows: of each split."""

    scenario = "classification"

    def __init__(
        self,
        config: FinetuneConfig,
        data: Data,
        parts: Parts,
        start: Start | None,
        manifest: Manifest,
        rows: Mapping[str, np.ndarray],
        device: torch.device,
    ) -> None:
        self.config, self.manifest, self.rows, self.device = config, manifest, rows, device
        multi = manifest.multi_label
        head: nn.Module = nn.Linear(parts.encoder.width, manifest.num_classes)  # pyright: ignore
        if start is not None and start.adapter is not None:
            head = read_head(start.folder / HEAD_FILE)
        self.module = LinearClassifier(parts.front_end, parts.encoder, head, multi_label=multi)  # pyright: ignore
        # A head that is trained further reads what it has always read.
        if config.whiten and (start is None or start.adapter is None):
            self.module.whitening = Whitening(parts.encoder.width, eps=WHITE_EPS)  # pyright: ignore
        self.module.to(device)
        self.reader = self.module
        self.source = self._source(data)
        labels = manifest.targets if multi else manifest.labels
        weight = positive_weights(labels[rows["train"]]) if config.pos_weight and multi else None
        augment = data.adapter.augment()
        self.task = ClassifyTask(
            self.module, self.source, labels, pos_weight=weight, augment=augment
        )

    def _source(self, data: Data) -> SignalCache | EmbeddingCache:
        """Embeddings, if the encoder is frozen and nothing is augmented."""
        if not self.module.frozen or data.adapter.augment() is not None:
            return data.signals
        cache = EmbeddingCache(
            data.signals,
            self.module.front_end,
            self.module.encoder,
            rows=np.concatenate(list(self.rows.values())),
            settings=[self.config.modality.dump(), self.config.encoder.dump()],
            folder=data.folder,
            device=self.device,
        )
        return data.embeddings.setdefault(cache.key, cache)

    def prepare(self) -> None:
        """Before the first step: mean and covariance of what the head reads."""
        self.source.ensure(self.rows["train"])
        white = self.module.whitening
        if white is None or int(white.count):
            return
        if is_first():
            self.module.eval()
            rows = some_rows(self.rows["train"])
            loader, size = Loader(self.source.gather, self.device), self._size
            with torch.no_grad():
                for batch in loader.batches(rows, size):
                    white.add(self.module.encode(batch))
            white.refresh()
            self.module.train()
        share_weights(white)

    def validation_score(self) -> float:
        """Accuracy of the validation recordings, or their macro AUROC."""
        rows = self.rows["validation"]
        scores = self.probabilities(rows)
        if not self.manifest.multi_label:
            return float((scores.argmax(1) == self.manifest.labels[rows]).mean())
        names = self.manifest.class_names
        targets = self.manifest.targets[rows]
        found = multi_label_scores(scores, targets, names, seed=0, replicates=0)
        return float(found.metrics["macro_auroc"] or 0.0)

    def meanings(self) -> list[str] | None:
        """The class of each training recording, if batches are made by it."""
        batch = self.config.training.batch
        if batch is None:
            return None
        if batch.meanings is None:
            raise UserError(
                "training.batch.neighbours: are negatives of a contrast (medley align), and this "
                "run learns labels; leave training.batch out."
            )
        if self.manifest.multi_label:
            raise UserError(
                f"training.batch.meanings={batch.meanings}: recordings of "
                f"dataset {self.manifest.name!r} have several labels, and a batch is made by one "
                "class each; leave training.batch out."
            )
        labels = self.manifest.labels[self.rows["train"]]
        return [self.manifest.class_names[label] for label in labels]

    def scores(self, split: str) -> Scores:
        rows, names, seed = self.rows[split], self.manifest.class_names, self.config.seeds[0]
        scores, groups = self.probabilities(rows), [self.manifest.groups[row] for row in rows]
        own: dict[str, Any] = {"seed": seed, "groups": groups}
        if self.manifest.multi_label:
            targets = self.manifest.targets[rows]
            found = multi_label_scores(scores, targets, names, **own)
            if split == "test":
                told = counts_at(scores, targets, self.facts()["thresholds"], names)
                found.metrics["per_class_confusion"] = told  # pyright: ignore
            return found
        return single_label_scores(scores, self.manifest.labels[rows], names, **own)

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(N, C) of the module as it is, in evaluation mode."""
        training = self.module.training
        self.module.eval()
        self.source.ensure(rows)
        loader = Loader(self.source.gather, self.device)
        parts = [self.module.probabilities(b).cpu() for b in loader.batches(rows, self._size)]
        self.module.train(training)
        return torch.cat(parts).numpy()

    def head(self) -> nn.Module:
        """As it reads embeddings that are not whitened."""
        white, head = self.module.whitening, self.module.head
        if white is None:
            return head
        assert isinstance(head, nn.Linear)
        plain = nn.Linear(head.in_features, head.out_features)
        weight, bias = white.folded(head.weight, head.bias)
        plain.load_state_dict({"weight": weight.cpu(), "bias": bias.cpu()})
        return plain

    def facts(self) -> dict[str, Any]:
        """Of ``ModelFacts``."""
        multi, thresholds = self.manifest.multi_label, None
        if multi and len(rows := self.rows["validation"]):
            thresholds = best_thresholds(self.probabilities(rows), self.manifest.targets[rows])
        elif multi:
            thresholds = (HALF,) * self.manifest.num_classes
        return {
            "task": "multi_label" if multi else "single_label",
            "multi_label": multi,
            "class_names": self.manifest.class_names,
            "thresholds": thresholds,
        }

    def notes(self) -> list[str]:
        return []

    @property
    def _size(self) -> int:
        return self.config.training.eval_batch_size


def some_rows(rows: np.ndarray) -> np.ndarray:
    """All rows, or as many of them, evenly spaced, as are enough to count by."""
    if len(rows) <= MOST_COUNTED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_COUNTED).round().astype(int)]


def refuse_labels(config: FinetuneConfig, manifest: Manifest, start: Start | None) -> None:
    """UserError for labels that nothing can be learned from, and for other ones than the adapter's.
    manifest: with the hold-out of a cell.
    """
    rows, name = manifest.indices("train"), manifest.name
    if not len(rows):
        raise UserError(f"dataset {name!r} has no training recordings; choose another split of it.")
    if config.task == "align":
        if start is not None and start.adapter is not None:
            raise UserError(
                "from_adapter goes on with a classifier (task=classify); for task=align give the "
                "folder as init, which takes its encoder."
            )
        return
    if manifest.multi_label:
        targets = manifest.targets[rows]
        if not ((targets == 1).any(0) & (targets == 0).any(0)).any():
            raise UserError(
                f"dataset {name!r}: no class has both positive and negative training recordings, "
                "so nothing can be learned; give recordings of both kinds."
            )
    elif len(found := np.unique(manifest.labels[rows])) < 2:
        raise UserError(
            f"dataset {name!r}: all {len(rows)} training recordings are of class "
            f"{manifest.class_names[found[0]]!r}; a classifier needs two classes or more."
        )
    if config.pos_weight and not manifest.multi_label:
        raise UserError(
            f"pos_weight: recordings of dataset {name!r} have one label each, and pos_weight is of "
            "several labels a recording; leave it out."
        )
    if start is None or start.adapter is None:
        return
    known = start.adapter
    if known.task == "align" or known.multi_label != manifest.multi_label:
        raise UserError(
            f"from_adapter: {start.folder} is of task {known.task}, dataset {name!r} has "
            f"{'several labels' if manifest.multi_label else 'one label'} a recording; give it as "
            "init, which takes its encoder and begins with a new head."
        )
    if known.class_names != manifest.class_names:
        here = [c for c in manifest.class_names if c not in known.class_names]
        gone = [c for c in known.class_names if c not in manifest.class_names]
        words = (
            f"here alone: {here[:5]}; there alone: {gone[:5]}" if here or gone else "their order"
        )
        raise UserError(
            f"from_adapter: {start.folder} has {len(known.class_names)} classes, dataset {name!r} "
            f"{manifest.num_classes}, and they differ ({words}); give it as init, which takes its "
            "encoder and begins with a new head."
        )


def tensor_bytes(module: nn.Module) -> dict[str, float]:
    """trained_parameters, parameters, and the bytes of gradients and AdamW's two moments."""
    every, trained = list(module.parameters()), [p for p in module.parameters() if p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in trained)
    return {
        "trained_parameters": sum(p.numel() for p in trained),
        "parameters": sum(p.numel() for p in every),
        "gradient_and_optimizer_bytes": 3 * size,
    }
