"""How much zero-shot accuracy depends on wording: over templates, and over spellings of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.errors import UserError
from multimodal.evaluation.class_vectors import class_vectors
from multimodal.evaluation.embeddings import (
    Embeddings,
    EmbedTexts,
    Labels,
    check_width,
    class_ids,
    unit_rows,
)
from multimodal.evaluation.prompts import PLACEHOLDER, LabelRule, Prompts
from multimodal.evaluation.zero_shot import ranked

FEWEST = 8
SPELLINGS: tuple[LabelRule, ...] = ("spaces", "underscores", "capitalised")


@dataclass(frozen=True, eq=False)
class Robustness:
    """top1: wording -> zero-shot top-1 accuracy. worst: the wording of the lowest, the first of
    equals; of the single templates (or spellings) only.

    metrics, in [0, 1], KIND template or spelling: zero_shot_top1_KIND_mean, ..._min, ..._max and
    ..._std over them (standard deviation of these very wordings, division by their number);
    zero_shot_KIND_changes, the share of recordings that not all of them answer alike. Templates
    also have zero_shot_top1_bare_label and zero_shot_top1_ensemble.
    """

    metrics: dict[str, float]
    top1: dict[str, float]
    worst: str


def template_robustness(
    embeddings: Embeddings,
    labels: Labels,
    class_names: Sequence[str],
    prompts: Prompts,
    embed_texts: EmbedTexts,
    *,
    recordings: Sequence[str] | None = None,
) -> Robustness:
    """Each template alone (at least 8, the bare label not counted), the bare label, the ensemble.

    The ensemble is of all templates, the bare label if it is one of them. Arguments and errors as
    ``zero_shot``; phrases are kept, class prompts have no templates and are not used.
    """
    singles = [t for t in prompts.templates if t != PLACEHOLDER]
    if len(singles) < FEWEST:
        raise UserError(
            f"the template-robustness report needs at least {FEWEST} templates besides the bare "
            f"label, got {len(singles)}; add templates to the file."
        )
    vectors = {
        template: class_vectors(class_names, prompts.single(template), embed_texts).vectors
        for template in (*singles, PLACEHOLDER)
    }
    every = torch.stack([vectors[template] for template in prompts.templates])
    ensemble = normalize(every.mean(dim=0), dim=1)
    ranking = _Ranking(embeddings, labels, recordings)
    report = ranking.report({t: vectors[t] for t in singles}, "template")
    bare, joint = ranking.top1(vectors[PLACEHOLDER]), ranking.top1(ensemble)
    metrics = {"zero_shot_top1_bare_label": bare, "zero_shot_top1_ensemble": joint}
    return Robustness({**report.metrics, **metrics}, report.top1, report.worst)


def spelling_robustness(
    embeddings: Embeddings,
    labels: Labels,
    class_names: Sequence[str],
    prompts: Prompts,
    embed_texts: EmbedTexts,
    *,
    recordings: Sequence[str] | None = None,
) -> Robustness:
    """The class names in each of SPELLINGS, in the first template; phrases are not used."""
    template = prompts.templates[0]
    vectors = {
        rule: class_vectors(class_names, prompts.single(template, labels=rule), embed_texts).vectors
        for rule in SPELLINGS
    }
    return _Ranking(embeddings, labels, recordings).report(vectors, "spelling")


class _Ranking:
    """Checked recordings that are classified by one set of class vectors (C, D) after the other."""

    def __init__(
        self,
        embeddings: Embeddings,
        labels: Labels,
        recordings: Sequence[str] | None,
    ) -> None:
        self.signals, self.labels = unit_rows(embeddings, recordings), labels

    def answers(self, vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
        check_width(self.signals, vectors)
        labels = class_ids(self.labels, len(self.signals), len(vectors))
        return ranked(self.signals, vectors, labels)

    def top1(self, vectors: Tensor) -> float:
        return float(np.mean(self.answers(vectors)[1] == 1))

    def report(self, wordings: Mapping[str, Tensor], kind: str) -> Robustness:
        predictions, top1 = [], {}
        for wording, vectors in wordings.items():
            predicted, ranks = self.answers(vectors)
            predictions.append(predicted)
            top1[wording] = float(np.mean(ranks == 1))
        values, every = np.array(list(top1.values())), np.stack(predictions)
        metrics = {
            f"zero_shot_top1_{kind}_mean": float(values.mean()),
            f"zero_shot_top1_{kind}_min": float(values.min()),
            f"zero_shot_top1_{kind}_max": float(values.max()),
            f"zero_shot_top1_{kind}_std": float(values.std()),
            f"zero_shot_{kind}_changes": float((every != every[0]).any(axis=0).mean()),
        }
        return Robustness(metrics, top1, min(top1, key=top1.__getitem__))
