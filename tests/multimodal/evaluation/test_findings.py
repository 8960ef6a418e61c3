"""Classes as questions: the share by hand, poolings and negatives, gradients, gaps told first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from multimodal.errors import UserError
from multimodal.evaluation.findings import findings, heading_of, none_text
from multimodal.evaluation.prompt_sets import Pooling, PromptSets

GRIDS = {
    "effusion": [["", "small", "large"], ["effusion", "fluid"]],
    "normal": [["normal", "clear"], ["lungs"]],
}
NEGATIVES = {"effusion": "dry lungs", "normal": "ill lungs"}


def vector(text: str) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, text))).normal(size=6)


def embed_texts(texts: Sequence[str]) -> torch.Tensor:
    return torch.tensor(np.stack([vector(text) for text in texts]))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


@pytest.mark.parametrize("negatives", [{}, NEGATIVES])
@pytest.mark.parametrize("pooling", ["mean_embedding", "mean_score", "max_score"])
def test_shares_are_what_the_formula_says(negatives: dict[str, str], pooling: Pooling) -> None:
    names, sets = list(GRIDS), PromptSets(
        GRIDS, drawn=2, seeds=(1, 2, 3), pooling=pooling, negatives=negatives, temperature=0.3
    )  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(5, 6))
    signals = normalize(torch.tensor(rows), dim=1)
    found = findings(names, sets, embed_texts, none="no findings", temperature=0.7)
    for i, row in enumerate(rows):
        for c, name in enumerate(names):
            shares = []
            for seed in sets.seeds:
                own = [unit(vector(text)) for text in sets.texts(names, seed)[c]]
                each = [float(unit(row) @ v) for v in own]
                score = {"mean_score": np.mean(each), "max_score": np.max(each)}
                score["mean_embedding"] = unit(row) @ unit(np.mean(own, axis=0))
                against = unit(row) @ unit(vector(negatives.get(name, "no findings")))
                tau = 0.3 if negatives else 0.7
                shares.append(1 / (1 + np.exp(-(score[pooling] - against) / tau)))
            assert float(found.shares(signals)[i, c]) == pytest.approx(np.mean(shares), abs=1e-12)
    signals.requires_grad_()
    assert torch.autograd.grad(found.shares(signals).sum(), signals)[0].abs().min() > 0


def test_what_denies_is_called_as_in_the_modalitys_captions() -> None:
    assert none_text(heading_of("ecg")) == "no findings"
    assert none_text(heading_of("audio")) == "no sounds"
    assert none_text(heading_of("video")) == "no labels"


def test_gaps_are_told_before_any_text_is_read() -> None:
    def unread(texts: Sequence[str]) -> torch.Tensor:
        raise AssertionError("embedded")

    gaps = {
        "no words for oedema": (["oedema"], PromptSets(GRIDS)),
        "an axis is empty": (["a"], PromptSets({"a": [["b"], []]})),
        "negatives: none for normal": (
            list(GRIDS),
            PromptSets(GRIDS, negatives={"effusion": "dry"}),
        ),
    }
    for words, (names, sets) in gaps.items():
        with pytest.raises(UserError, match=words):
            findings(names, sets, unread, none="no findings", temperature=1.0)
