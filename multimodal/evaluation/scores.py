"""Everything that is measured of signals and texts in one space, on one set of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.evaluation.captions import caption_pool
from multimodal.evaluation.class_vectors import ClassVectors, class_vectors
from multimodal.evaluation.diagnostics import diagnose, diagnose_classes
from multimodal.evaluation.embeddings import EmbedTexts, unit_rows, unit_texts
from multimodal.evaluation.intervals import REPLICATES, Intervals
from multimodal.evaluation.pooled_auc import pooled_auc
from multimodal.evaluation.prompts import PLACEHOLDER, Prompts
from multimodal.evaluation.retrieval import retrieval
from multimodal.evaluation.robustness import FEWEST, template_robustness
from multimodal.evaluation.zero_shot import MULTI_LABEL_REPLICATES, zero_shot, zero_shot_multi_label
from multimodal.recordings import Manifest, Recording

MAP_POINTS = 400
FEWEST_PAIRS = 5  # of ``diagnose``


@dataclass(frozen=True)
class Wanted:
    """classes: the candidates, class ids, at least 2 for zero-shot classification. ensemble: the
    mean of all templates instead of the first one. The other parts can be left out; diagnostics:
    of recordings and their texts, with the pooled AUC of texts that ask for recordings; without
    retrieval of recordings and their classes' prompts. intervals: of what is measured anyway.
    """

    classes: tuple[int, ...]
    ensemble: bool = False
    robustness: bool = True
    retrieval: bool = True
    diagnostics: bool = True
    intervals: bool = True

    def replicates(self, usual: int = REPLICATES) -> int:
        """Of the bootstrap."""
        return usual if self.intervals else 0


@dataclass
class Scores:
    """metrics: as in ``zero_shot``, ``robustness``, ``retrieval`` and ``diagnostics``; fractions
    unless those say otherwise. intervals: (low, high) of 95 %. details: plain data for a report:
    ``top1_by_template``, ``worst_template``, ``warnings``, ``similarity`` (C x C mean
    cosine of the recordings of a class with each class prompt) and ``map`` (see ``embedding_map``).
    """

    metrics: dict[str, float | None] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def score(
    embeddings: Tensor,
    embed_texts: EmbedTexts,
    manifest: Manifest,
    rows: np.ndarray,
    *,
    prompts: Prompts,
    wanted: Wanted,
    seed: int = 0,
) -> Scores:
    """embeddings: (N, D) of the manifest's ``rows``, (N,). seed: of the bootstrap.

    Recordings whose class is no candidate are left out of classification, not of retrieval.
    UserError: NaN (the recordings are named), class names missing, empty captions, other widths.
    """
    recordings = [manifest.recordings[i] for i in rows]
    names = [r.uid for r in recordings]
    signals = unit_rows(embeddings, names)
    scores = Scores()
    if len(wanted.classes) >= 2:
        _classify(scores, signals, embed_texts, manifest, rows, prompts, wanted, seed)
    captioned = [i for i, r in enumerate(recordings) if r.text.strip()]
    if wanted.retrieval and len({recordings[i].text for i in captioned}) >= 2:
        part = [recordings[i] for i in captioned]
        pool = caption_pool([r.text for r in part], [signal_name(r) for r in part])
        replicates = wanted.replicates()
        found = retrieval(
            signals[captioned][pool.rows], pool, embed_texts, replicates=replicates, seed=seed
        )
        scores.metrics |= found.metrics
        scores.intervals |= found.intervals
        if wanted.diagnostics and len(pool.rows) >= 2:
            own = [[int(place)] for place in pool.owner]
            texts = unit_texts(pool.texts, embed_texts)
            area = pooled_auc(texts, signals[captioned][pool.rows], own, replicates=0)
            scores.metrics["pooled_auc"] = area.metrics["pooled_auc"]
    if wanted.diagnostics and wanted.retrieval and len(captioned) >= FEWEST_PAIRS:
        texts = unit_texts([recordings[i].text for i in captioned], embed_texts)
        labels = None if manifest.multi_label else manifest.labels[rows[captioned]]
        scores.metrics |= diagnose(signals[captioned], texts, labels=labels).metrics
    return scores


def signal_name(recording: Recording) -> str:
    """Equal for the recordings that are captions of one signal."""
    start = f"@{recording.start}" if recording.start else ""
    return f"{recording.where}{start}"


def _classify(
    scores: Scores,
    signals: Tensor,
    embed_texts: EmbedTexts,
    manifest: Manifest,
    rows: np.ndarray,
    prompts: Prompts,
    wanted: Wanted,
    seed: int,
) -> None:
    names = [manifest.class_names[c] for c in wanted.classes]
    headline = prompts.headline(ensemble=wanted.ensemble)
    classes = class_vectors(names, headline, embed_texts)
    if manifest.multi_label:
        targets = manifest.targets[rows][:, list(wanted.classes)]
        replicates = wanted.replicates(MULTI_LABEL_REPLICATES)
        found = zero_shot_multi_label(signals, targets, classes, replicates=replicates, seed=seed)
        scores.metrics |= found.metrics
        scores.intervals |= found.intervals
        return
    inside = np.flatnonzero(np.isin(manifest.labels[rows], wanted.classes))
    labels = _positions(manifest.labels[rows[inside]], wanted.classes)
    own = signals[inside]
    found = zero_shot(own, labels, classes, replicates=wanted.replicates(), seed=seed)
    scores.metrics |= found.metrics
    scores.intervals |= found.intervals
    scores.details["warnings"] = list(found.warnings)
    similarity = class_similarity(own, labels, classes).round(4).tolist()
    scores.details["similarity"] = [[None if v != v else v for v in row] for row in similarity]
    scores.details["map"] = embedding_map(own, labels, classes)
    if wanted.diagnostics and not wanted.retrieval and len(own) >= FEWEST_PAIRS:
        scores.metrics |= diagnose_classes(own, labels, classes.vectors).metrics
    if prompts.phrases:
        bare = class_vectors(names, headline.mechanical(), embed_texts)
        metrics = zero_shot(own, labels, bare, replicates=0).metrics
        scores.metrics["zero_shot_top1_mechanical"] = metrics["zero_shot_top1"]
    templates = [t for t in prompts.templates if t != PLACEHOLDER]
    if wanted.robustness and len(templates) >= FEWEST:
        report = template_robustness(own, labels, names, prompts, embed_texts)
        scores.metrics |= report.metrics
        scores.details |= {"top1_by_template": report.top1, "worst_template": report.worst}


def _positions(labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    place = {c: i for i, c in enumerate(classes)}
    return np.array([place[int(c)] for c in labels])


def class_similarity(signals: Tensor, labels: np.ndarray, classes: ClassVectors) -> np.ndarray:
    """(C, C): mean cosine of the recordings of class i with the prompt of class j; NaN: none."""
    scores = (signals @ classes.vectors.T).numpy()
    return np.stack(
        [
            scores[labels == c].mean(axis=0)
            if (labels == c).any()
            else np.full(len(classes.class_names), np.nan)
            for c in range(len(classes.class_names))
        ]
    )


def embedding_map(signals: Tensor, labels: np.ndarray, classes: ClassVectors) -> dict[str, Any]:
    """Recordings and class prompts in the plane in which the classes differ most.

    The plane: the first two principal components of the class means of the recordings and of the
    class prompts together, each side centred by itself (else the gap between the modalities would
    take up the first one) and scaled to the same total variance. At most MAP_POINTS recordings,
    evenly spaced. ``signals``: [x, y, class]; ``classes``: [x, y]; both sides centred, not scaled.
    ``explained``: shares of the variance of the two sides together.
    """
    present = np.unique(labels)
    means = torch.stack([signals[torch.from_numpy(labels == c)].mean(0) for c in present])
    sides = [side - side.mean(0) for side in (means, classes.vectors)]
    sides = [side / side.norm().clamp_min(1e-12) for side in sides]
    _, values, axes = torch.linalg.svd(torch.cat(sides), full_matrices=False)
    axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
    chosen = np.linspace(0, len(signals) - 1, min(MAP_POINTS, len(signals))).round().astype(int)
    points = (signals[torch.from_numpy(chosen)] - signals.mean(0)) @ axes.T
    prompts = (classes.vectors - classes.vectors.mean(0)) @ axes.T
    shares = values.square() / values.square().sum().clamp_min(1e-300)
    where = zip(points.numpy().round(4).tolist(), chosen, strict=True)
    return {
        "signals": [[*xy, int(labels[i])] for xy, i in where],
        "classes": prompts.numpy().round(4).tolist(),
        "class_names": list(classes.class_names),
        "explained": shares[:2].numpy().round(4).tolist(),
    }
