"""Synthetic images and ECGs with a known place: a trained model's map lies there, a random one's
does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from multimodal.batch import Features
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.ecg_transformer import EcgTransformer
from multimodal.encoders.vit import XrayViT
from multimodal.evaluation.attention_maps import attention_maps
from multimodal.evaluation.attention_pictures import picture

SIZES: Any = {"width": 32, "depth": 2, "heads": 2}
PIXELS, SQUARE, SAMPLES, BURST = 32, 8, 300, 40
Planted = tuple[Tensor, Tensor, Tensor]


def images(count: int, seed: int) -> Planted:
    """Noise with a square somewhere, bright or checked. Values, classes, where the square is."""
    made = torch.Generator().manual_seed(seed)
    values = 0.5 * torch.randn(count, 1, PIXELS, PIXELS, generator=made)
    classes, place = torch.arange(count) % 2, torch.zeros(count, PIXELS, PIXELS, dtype=torch.bool)
    rows, columns = torch.meshgrid(torch.arange(SQUARE), torch.arange(SQUARE), indexing="ij")
    squares = (2.0 * (-1.0) ** (rows + columns), torch.full((SQUARE, SQUARE), 2.0))
    for n in range(count):
        top, left = torch.randint(0, PIXELS - SQUARE + 1, (2,), generator=made).tolist()
        place[n, top : top + SQUARE, left : left + SQUARE] = True
        values[n, 0, top : top + SQUARE, left : left + SQUARE] += squares[int(classes[n])]
    return values, classes, place


def ecgs(count: int, seed: int) -> Planted:
    """Noise with a burst somewhere, narrow or wide beats."""
    made = torch.Generator().manual_seed(seed)
    values = 0.3 * torch.randn(count, 12, SAMPLES, generator=made)
    classes, place = torch.arange(count) % 2, torch.zeros(count, SAMPLES, dtype=torch.bool)
    time = torch.arange(BURST)
    waves = [2.0 * torch.sin(2 * torch.pi * time / period) for period in (5, 20)]
    for n in range(count):
        begin = int(torch.randint(0, SAMPLES - BURST + 1, (1,), generator=made))
        place[n, begin : begin + BURST] = True
        values[n, :, begin : begin + BURST] += waves[int(classes[n])]
    return values, classes, place


KINDS: dict[str, tuple[Callable[[], Any], Callable[[int, int], Planted]]] = {
    "vit": (lambda: XrayViT(image=PIXELS, patch=4, **SIZES), images),
    "compact": (lambda: CompactEncoder(1, axes=2, patch=4, **SIZES), images),
    "ecg_transformer": (lambda: EcgTransformer(samples=SAMPLES, **SIZES), ecgs),
}


def features_of(values: Tensor) -> Features:
    return Features(values, torch.full((len(values),), values.shape[2]))


def train(encoder: nn.Module, head: nn.Module, planted: Planted) -> None:
    values, classes, _ = planted
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], 3e-3)
    encoder.train()
    for _ in range(8):
        for at in range(0, len(values), 64):
            pooled = encoder(*features_of(values[at : at + 64])).pooled
            optimizer.zero_grad()
            cross_entropy(head(pooled), classes[at : at + 64]).backward()
            optimizer.step()
    encoder.eval()


def mass_inside(encoder: nn.Module, head: nn.Module, planted: Planted) -> float:
    """The mean share of a map that lies where the label's sign is."""
    values, classes, place = planted
    features = features_of(values)

    def logit(pooled: Any) -> Tensor:
        return head(pooled["signal"]).gather(1, classes[:, None])[:, 0]

    maps = attention_maps({"signal": (encoder, features)}, logit)
    shown = picture(encoder, features, maps.tokens["signal"]).flatten(1)
    return float(((shown * place.flatten(1)).sum(1) / shown.sum(1)).mean())


@pytest.mark.parametrize(
    "name",
    ["vit", *(pytest.param(n, marks=pytest.mark.slow) for n in ("compact", "ecg_transformer"))],
)
def test_the_map_of_a_trained_model_lies_where_the_sign_is(name: str) -> None:
    make, data = KINDS[name]
    torch.manual_seed(0)
    encoder, head = make(), nn.Linear(32, 2)
    planted = data(64, 1)
    untrained = mass_inside(encoder.eval(), head, planted)
    train(encoder, head, data(512, 0))
    values, classes, place = planted
    found = head(encoder(*features_of(values)).pooled).argmax(1)
    assert (found == classes).float().mean() > 0.95
    chance = float(place.float().mean())
    trained = mass_inside(encoder, head, planted)
    assert untrained < 2 * chance
    assert trained > 3 * chance
