"""Zero-shot scores of findings from sets of prompts that are drawn, and how they are pooled.

Where a class has many wordings (severity x kind x place), an evaluation draws some of them, and the
draw moves the result. So the draw has a seed, and the result is a mean and a standard deviation
over seeds. Findings stay questions of their own: AUROC and average precision of each class.

Deviations from MoRE's released zero-shot (Thapa et al., arXiv:2410.16239): it draws without a seed,
takes the maximum over prompts and calls it a mean, and normalises scores over the test images
(``transductive`` here, off by default: it needs all test recordings at once).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.errors import UserError
from multimodal.evaluation import multi_label
from multimodal.evaluation.embeddings import Embeddings, EmbedTexts, unit_rows, unit_texts
from multimodal.evaluation.intervals import Intervals

Pooling = Literal["mean_embedding", "mean_score", "max_score"]
Grid = Sequence[Sequence[str]]


@dataclass(frozen=True)
class PromptSets:
    """grids: class name -> axes of words; a prompt is one word of each axis, joined by spaces.

    drawn: prompts of a class in a set, without repeats; None: all of them (then seeds change
    nothing). seeds: one set each. pooling: mean_embedding (mean of the unit embeddings, scaled to
    length 1), mean_score or max_score. negatives: class name -> a prompt that denies it; a score is
    then the softmax over both at ``temperature`` (Tiu et al. 2022, CheXzero). transductive: scores
    are standardised over the recordings, class by class.
    """

    grids: Mapping[str, Grid]
    drawn: int | None = 5
    seeds: Sequence[int] = (1, 2, 3, 4, 5)
    pooling: Pooling = "mean_embedding"
    negatives: Mapping[str, str] = field(default_factory=dict)
    temperature: float = 0.02
    transductive: bool = False

    def refuse_gaps(self, class_names: Sequence[str]) -> None:
        """UserError for classes without words, or with an empty axis, or without their negative."""
        missing = [name for name in class_names if name not in self.grids]
        if missing:
            raise UserError(
                f"prompts: no words for {', '.join(missing[:5])}; give each class a list of axes, "
                'such as [["mild", "severe"], ["cardiomegaly"]].'
            )
        for name in class_names:
            self._every(name)
        missing = [name for name in class_names if name not in self.negatives]
        if self.negatives and missing:
            raise UserError(f"negatives: none for {', '.join(missing[:5])}; give each class one.")

    def texts(self, class_names: Sequence[str], seed: int) -> list[list[str]]:
        """The prompts of each class for a seed; UserError as ``refuse_gaps``."""
        self.refuse_gaps(class_names)
        return [self._drawn(name, number, seed) for number, name in enumerate(class_names)]

    def _every(self, name: str) -> list[str]:
        # Equal prompts (a word listed twice) would be drawn more often than others.
        every = list(dict.fromkeys(" ".join(filter(None, p)) for p in product(*self.grids[name])))
        if not every or not all(every):
            raise UserError(f"prompts of {name!r}: an axis is empty; give each at least a word.")
        return every

    def _drawn(self, name: str, number: int, seed: int) -> list[str]:
        every = self._every(name)
        if self.drawn is None or self.drawn >= len(every):
            return every
        order = np.random.default_rng([seed, number]).permutation(len(every))
        return [every[i] for i in sorted(order[: self.drawn])]


@dataclass(frozen=True, eq=False)
class PromptSetScores:
    """metrics: macro_auroc and mean_average_precision, means over seeds, with _sd (of seeds, NaN
    of one), mean_average_precision_chance (the mean prevalence) and num_scored_classes. per_class:
    name -> auroc, average_precision (means over seeds; NaN: no positive or no negative),
    prevalence and support. intervals: of 95 %, patients sampled with replacement. protocol: in
    words, for the table.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    intervals: Intervals
    protocol: str


def score_prompt_sets(
    embeddings: Embeddings,
    targets: np.ndarray,
    class_names: Sequence[str],
    sets: PromptSets,
    embed_texts: EmbedTexts,
    *,
    groups: Sequence[str],
    replicates: int = 1_000,
    seed: int = 0,
) -> PromptSetScores:
    """embeddings: (N, D). targets: (N, C), 1 present, 0 absent, NaN unknown (left out). groups:
    (N,) patients. UserError: embeddings with NaN, classes without words or without their negative.
    """
    signals, truth = unit_rows(embeddings), np.asarray(targets, dtype=np.float64)
    scores = [_scores(signals, class_names, sets, embed_texts, own) for own in sets.seeds]
    areas = np.stack([multi_label.auroc(s, truth) for s in scores])
    precisions = np.stack([multi_label.average_precision(s, truth) for s in scores])
    scored = ~np.isnan(areas[0])
    metrics: dict[str, float] = {"num_scored_classes": int(scored.sum())}
    for key, values in (("macro_auroc", areas), ("mean_average_precision", precisions)):
        macro = values[:, scored].mean(axis=1) if scored.any() else np.full(len(values), np.nan)
        metrics[key] = float(macro.mean())
        metrics[f"{key}_sd"] = float(macro.std(ddof=1)) if len(macro) > 1 else float("nan")
    known = ~np.isnan(truth)
    support = np.nansum(truth, axis=0)
    prevalence = support / np.maximum(known.sum(axis=0), 1)
    if scored.any():
        metrics["mean_average_precision_chance"] = float(prevalence[scored].mean())
    table = {
        name: {
            "auroc": float(areas[:, c].mean()),
            "average_precision": float(precisions[:, c].mean()),
            "prevalence": float(prevalence[c]),
            "support": float(support[c]),
        }
        for c, name in enumerate(class_names)
    }
    intervals: Intervals = {}
    if scored.any():
        intervals = multi_label.intervals(
            scores, truth, groups=groups, replicates=replicates, seed=seed
        )
    return PromptSetScores(metrics, table, intervals, _protocol(sets))


def embedded_sets(
    sets: PromptSets, names: Sequence[str], embed_texts: EmbedTexts, seed: int
) -> Sequence[Tensor]:
    """C x (P_c, D) float64 unit rows: the prompts of each class for a seed."""
    texts = sets.texts(names, seed)
    embedded = unit_texts([text for own in texts for text in own], embed_texts)
    return embedded.split([len(own) for own in texts])


def pooled(signals: Tensor, prompts: Sequence[Tensor], pooling: Pooling) -> Tensor:
    """(N, D) and C x (P_c, D), all of length 1 -> (N, C) scores in [-1, 1]."""
    if pooling == "mean_embedding":
        return signals @ normalize(torch.stack([p.mean(0) for p in prompts]), dim=1).T
    columns = [signals @ own.T for own in prompts]
    if pooling == "mean_score":
        return torch.stack([c.mean(dim=1) for c in columns], dim=1)
    return torch.stack([c.max(dim=1).values for c in columns], dim=1)


def _scores(
    signals: Tensor, names: Sequence[str], sets: PromptSets, embed_texts: EmbedTexts, seed: int
) -> np.ndarray:
    """(N, C), rounded so that equal cosines are equal numbers."""
    scores = pooled(signals, embedded_sets(sets, names, embed_texts, seed), sets.pooling)
    if sets.negatives:
        against = signals @ unit_texts([sets.negatives[n] for n in names], embed_texts).T
        scores = torch.sigmoid((scores - against) / sets.temperature)
    if sets.transductive:
        scores = (scores - scores.mean(0)) / scores.std(0).clamp(min=1e-12)
    return scores.numpy().round(12)


def _protocol(sets: PromptSets) -> str:
    drawn = "all prompts" if sets.drawn is None else f"{sets.drawn} prompts a class"
    words = [f"{drawn}, {len(sets.seeds)} prompt seeds", sets.pooling.replace("_", " ")]
    words += ["against a negative prompt"] * bool(sets.negatives)
    return "; ".join(words + ["TRANSDUCTIVE z-score"] * sets.transductive)
