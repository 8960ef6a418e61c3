"""How likely each class of multi-label data is: a question of its own, against a text that denies.

A signal is near a finding or it is not; how near another finding is says nothing of that. So each
class's prompts stand against a negative of theirs, or against what a signal without any label goes
with ("no findings"), as in Tiu et al. 2022 (CheXzero, Nature Biomedical Engineering)::

    share = mean over prompt sets of sigmoid((cos(signal, prompts) - cos(signal, negative)) / tau)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.evaluation.embeddings import EmbedTexts, unit_texts
from multimodal.evaluation.prompt_sets import Pooling, PromptSets, embedded_sets, pooled

# What the labels of a multi-label recording are called in its caption; elsewhere "labels".
HEADINGS = {"xray": "findings", "ecg": "findings", "audio": "sounds"}
PRESENT = 0.5  # nearer to the finding than to what denies it


def heading_of(modality: str) -> str:
    """What labels of its recordings are called in a text."""
    return HEADINGS.get(modality, "labels")


def none_text(heading: str) -> str:
    """The text of a recording without any label."""
    return f"no {heading}"


@dataclass(frozen=True, eq=False)
class Findings:
    """C classes as questions. sets: of each prompt set, of each class (P, D) unit rows. against:
    (C, D) unit rows. temperature: by which differences of cosines are divided.
    """

    sets: tuple[tuple[Tensor, ...], ...]
    against: Tensor
    pooling: Pooling
    temperature: float

    def shares(self, signals: Tensor) -> Tensor:
        """(N, D) unit rows -> (N, C) in [0, 1], with gradient."""
        against = signals @ self.against.T
        margins = [pooled(signals, prompts, self.pooling) - against for prompts in self.sets]
        return torch.sigmoid(torch.stack(margins) / self.temperature).mean(0)


def findings(
    class_names: Sequence[str],
    sets: PromptSets,
    embed_texts: EmbedTexts,
    *,
    none: str,
    temperature: float,
    device: torch.device | str = "cpu",
) -> Findings:
    """Of prompt sets, with their negatives at their temperature; where they have none, against the
    text ``none`` at ``temperature``. ``transductive`` is of a whole test set and has no part here.

    UserError: as ``PromptSets.refuse_gaps``, and for embeddings with NaN.
    """
    sets.refuse_gaps(class_names)
    prompts = [embedded_sets(sets, class_names, embed_texts, seed) for seed in sets.seeds]
    denials = [sets.negatives[n] for n in class_names] if sets.negatives else [none]
    against = unit_texts(denials, embed_texts).expand(len(class_names), -1)
    return Findings(
        tuple(tuple(p.to(device) for p in own) for own in prompts),
        against.to(device),
        sets.pooling,
        sets.temperature if sets.negatives else temperature,
    )
