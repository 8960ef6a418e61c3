"""Cosines with class vectors, as a head."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity, normalize

from multimodal.models.cosine_head import CosineHead

GENERATOR = torch.Generator().manual_seed(0)
PARTS = {
    "projection": torch.randn(5, 7, generator=GENERATOR),
    "shift": torch.randn(5, generator=GENERATOR),
    "classes": normalize(torch.randn(3, 5, generator=GENERATOR), dim=1),
    "scale": torch.tensor(100.0),
}


def test_logits_are_scaled_cosines_less_the_offset() -> None:
    features, offset = torch.randn(4, 7, generator=GENERATOR), torch.tensor([0.5, -0.2, 0.0])
    head = CosineHead(**PARTS, offset=offset)
    joint = features @ PARTS["projection"].T + PARTS["shift"]
    found = cosine_similarity(joint[:, None].double(), PARTS["classes"][None].double(), dim=2)
    torch.testing.assert_close(head.cosines(features), found, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(head(features), 100 * (found - offset), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(CosineHead(**PARTS)(features), 100 * found, atol=1e-4, rtol=1e-5)
    assert CosineHead(**PARTS).state_dict().keys() == PARTS.keys()
    assert head.state_dict().keys() == {*PARTS, "offset"}


def test_probabilities_separate_where_the_offset_is() -> None:
    """Cosines of 0.8 and more, as those of a space in which everything is near everything."""
    near = torch.tensor([0.80, 0.90, 0.95, 0.99])
    joint = torch.stack([near, (1 - near**2).sqrt()], dim=1)
    plain = {"projection": torch.eye(2), "shift": torch.zeros(2), "scale": torch.tensor(100.0)}
    parts = {**plain, "classes": torch.tensor([[1.0, 0.0]])}
    assert (CosineHead(**parts)(joint).float().sigmoid() == 1).all()
    shares = CosineHead(**parts, offset=torch.tensor([0.92]))(joint).sigmoid()[:, 0]
    assert (shares >= 0.5).tolist() == [False, False, True, True]
    assert (shares.diff() > 0).all()
