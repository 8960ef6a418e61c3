"""Prompt sets: draws, poolings by hand, resampled AUROC against repeated rows, the null model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from multimodal.errors import UserError
from multimodal.evaluation import multi_label
from multimodal.evaluation.prompt_sets import PromptSets, pooled, score_prompt_sets

GRIDS = {
    "effusion": [["", "small", "large"], ["pleural effusion", "fluid"], ["", "on the left"]],
    "normal": [["normal", "clear"], ["lungs", "chest"]],
}
WORDS = ("effusion", "fluid")


def embed_texts(texts: Sequence[str]) -> torch.Tensor:
    """(n, 8): the first axis says whether a text speaks of fluid; the rest is its own noise."""
    rows = []
    for text in texts:
        noise = np.random.default_rng(sum(map(ord, text))).normal(0, 0.3, 7)
        speaks = any(word in text for word in WORDS)
        rows.append([1.0 if speaks else -1.0, *noise])
    return torch.tensor(np.array(rows), dtype=torch.float32)


def recordings(count: int = 60) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(0)
    fluid = rng.random(count) < 0.4
    rows = np.concatenate([np.where(fluid, 1.0, -1.0)[:, None], rng.normal(0, 0.5, (count, 7))], 1)
    return torch.tensor(rows), np.stack([fluid, ~fluid], axis=1).astype(float)


def test_draws_depend_on_the_seed_alone_and_repeat_nothing() -> None:
    sets = PromptSets(GRIDS, drawn=4)
    names = ["effusion", "normal"]
    one, again, other = sets.texts(names, 1), sets.texts(names, 1), sets.texts(names, 2)
    assert one == again != other
    assert len(set(one[0])) == 4
    assert one[1] == ["normal lungs", "normal chest", "clear lungs", "clear chest"]
    assert "pleural effusion" in PromptSets(GRIDS, drawn=None).texts(names, 1)[0]
    assert len(PromptSets(GRIDS, drawn=None).texts(names, 1)[0]) == 12


def test_poolings_by_hand() -> None:
    signals = normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0]], dtype=torch.float64), dim=1)
    prompts = [normalize(torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64), dim=1)]
    cosines = signals @ prompts[0].T
    torch.testing.assert_close(pooled(signals, prompts, "max_score")[:, 0], cosines.max(1).values)
    torch.testing.assert_close(pooled(signals, prompts, "mean_score")[:, 0], cosines.mean(1))
    mean = normalize(torch.tensor([[0.8, 0.4]], dtype=torch.float64), dim=1)
    torch.testing.assert_close(pooled(signals, prompts, "mean_embedding"), signals @ mean.T)


@pytest.mark.parametrize("pooling", ["mean_embedding", "mean_score", "max_score"])
def test_it_finds_what_is_there_and_nothing_in_noise(pooling) -> None:
    signals, targets = recordings()
    groups = [str(i // 2) for i in range(len(signals))]
    names = ["effusion", "normal"]
    found = score_prompt_sets(
        signals, targets, names, PromptSets(GRIDS, pooling=pooling), embed_texts,
        groups=groups, replicates=200,
    )  # fmt: skip
    low, high = found.intervals["macro_auroc"]
    assert 0.9 < low <= found.metrics["macro_auroc"] <= high <= 1
    assert found.metrics["macro_auroc_sd"] >= 0
    assert found.per_class["effusion"]["support"] == targets[:, 0].sum()
    assert found.metrics["mean_average_precision_chance"] == pytest.approx(0.5)
    assert pooling.replace("_", " ") in found.protocol
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=signals.shape))
    null = score_prompt_sets(
        noise, targets, names, PromptSets(GRIDS, pooling=pooling), embed_texts,
        groups=groups, replicates=200,
    )  # fmt: skip
    low, high = null.intervals["macro_auroc"]
    assert low < 0.5 < high


def test_negatives_and_z_scores_are_named_and_keep_what_they_must() -> None:
    signals, targets = recordings()
    names, groups = ["effusion", "normal"], [str(i) for i in range(len(signals))]

    def scored(**how: object):
        sets = PromptSets(GRIDS, drawn=None, seeds=(1,), **how)  # pyright: ignore
        return score_prompt_sets(
            signals, targets, names, sets, embed_texts, groups=groups, replicates=0
        )

    plain, standardised = scored(), scored(transductive=True)
    assert "TRANSDUCTIVE" in standardised.protocol
    assert standardised.per_class["effusion"]["auroc"] == plain.per_class["effusion"]["auroc"]
    paired = scored(negatives={"effusion": "dry lungs", "normal": "fluid in the chest"})
    assert "negative" in paired.protocol
    assert paired.metrics["macro_auroc"] > 0.9
    with pytest.raises(UserError, match="negatives: none for normal"):
        scored(negatives={"effusion": "dry lungs"})
    with pytest.raises(UserError, match="no words for oedema"):
        PromptSets(GRIDS).texts(["oedema"], 1)
    with pytest.raises(UserError, match="axis is empty"):
        PromptSets({"a": [["b"], []]}).texts(["a"], 1)


@given(st.integers(0, 2**16))
def test_resampled_auroc_is_that_of_repeated_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (7, 2)).astype(float)
    targets = rng.integers(0, 2, (7, 2)).astype(float)
    targets[rng.random((7, 2)) < 0.2] = np.nan
    counts = rng.integers(0, 3, (5, 7))
    found = multi_label.resampled_auroc(scores, targets, counts)
    for own, drawn in zip(found, counts, strict=True):
        rows = np.repeat(np.arange(7), drawn)
        expected = multi_label.auroc(scores[rows].reshape(-1, 2), targets[rows].reshape(-1, 2))
        np.testing.assert_allclose(own, expected)
