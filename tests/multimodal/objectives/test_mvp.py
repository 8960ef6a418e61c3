"""Closed forms against automatic differentiation, one recording at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, cross_entropy

from multimodal.objectives.mvp import (
    cvpt_loss,
    feature_scale,
    gradient_similarity,
    gsf_loss,
    key_distances,
)


def make(seed: int, count: int = 12, width: int = 7, classes: int = 6):
    """Head (C, D) and bias, features, labels among the exposed classes, factors, exposed."""
    random = torch.Generator().manual_seed(seed)
    exposed = torch.rand(classes, generator=random) < 0.7
    exposed[0] = True
    shown = exposed.nonzero().squeeze(1)
    labels = shown[torch.randint(0, len(shown), (count,), generator=random)]
    return (
        torch.randn(classes, width, generator=random),
        torch.randn(classes, generator=random),
        torch.randn(count, width, generator=random),
        labels,
        2 * torch.randn(count, classes, generator=random).sigmoid(),
        exposed,
    )


def logits_of(weight: Tensor, bias: Tensor, features: Tensor, factor: Tensor, exposed: Tensor):
    return ((features @ weight.T + bias) * factor).masked_fill(~exposed, float("-inf"))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 2, 12])
def test_similarity_is_that_of_a_backward_pass_a_recording(seed: int, count: int) -> None:
    weight, bias, features, labels, factor, exposed = make(seed, count)
    weight.requires_grad_(True)

    def gradient(rows: slice) -> Tensor:
        z = logits_of(weight, bias, features[rows], factor[rows], exposed)
        return torch.autograd.grad(cross_entropy(z, labels[rows]), [weight])[0]

    whole = gradient(slice(None))
    expected = [
        1 - cosine_similarity(gradient(slice(i, i + 1))[y], whole[y], dim=0)
        for i, y in enumerate(labels.tolist())
    ]
    z = logits_of(weight, bias, features, factor, exposed)
    found = gradient_similarity(features, z, labels, factor)
    assert not found.requires_grad
    if int(exposed.sum()) > 1:
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert ((found >= -1e-5) & (found <= 2 + 1e-5)).all()


@pytest.mark.parametrize("seed", range(20))
def test_similarity_of_several_labels(seed: int) -> None:
    weight, bias, features, _, factor, exposed = make(seed)
    random = torch.Generator().manual_seed(seed + 100)
    targets = (torch.rand(12, 6, generator=random) < 0.4).float()
    targets[torch.rand(12, 6, generator=random) < 0.1] = torch.nan
    targets[0] = 0.0
    weight.requires_grad_(True)
    counts = exposed & ~targets.isnan()

    def gradient(rows: slice) -> Tensor:
        z = (features[rows] @ weight.T + bias) * factor[rows]
        cells = binary_cross_entropy_with_logits(z, targets[rows].nan_to_num(0.0), reduction="none")
        loss = (cells * counts[rows]).sum(1).mean()
        return torch.autograd.grad(loss, [weight])[0]

    whole, expected = gradient(slice(None)), []
    for i in range(12):
        own = gradient(slice(i, i + 1))
        positive = (counts[i] & (targets[i] == 1)).nonzero().squeeze(1).tolist()
        each = [1 - cosine_similarity(own[y], whole[y], dim=0) for y in positive]
        expected.append(torch.stack(each).mean() if each else torch.tensor(1.0))
    z = logits_of(weight, bias, features, factor, exposed)
    found = gradient_similarity(features, z, targets, factor, exposed=exposed)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert found[0] == 1.0


def test_a_recording_that_is_learned_has_similarity_1() -> None:
    z = torch.tensor([[200.0, 0.0], [1.0, 0.0]])
    found = gradient_similarity(torch.ones(2, 3), z, torch.tensor([0, 0]), torch.ones(2, 2))
    assert found[0] == 1.0
    assert found[1] == pytest.approx(0.0, abs=1e-6)


def test_the_focal_loss_and_its_released_form() -> None:
    losses, s = torch.tensor([1.0, 3.0, 0.5]), torch.tensor([0.0, 1.0, 2.0])
    by_hand = sum(0.5 * c + 0.5 * x**2 * c for c, x in ((1.0, 0.0), (3.0, 1.0), (0.5, 2.0))) / 3
    assert float(gsf_loss(losses, s)) == pytest.approx(by_hand)
    released = 1.5 * (0.5 + 0.5 * (0 + 1 + 4) / 3)
    assert float(gsf_loss(losses, s, mode="released_scalar")) == pytest.approx(released)
    same = torch.full((3,), 0.7)
    a, b = gsf_loss(losses, same), gsf_loss(losses, same, mode="released_scalar")
    assert float(a) == pytest.approx(float(b))
    assert float(gsf_loss(losses, s, alpha=0.0)) == pytest.approx(1.5)


def test_gradients_of_the_focal_loss() -> None:
    s = torch.tensor([0.1, 0.9, 1.7], dtype=torch.float64)
    losses = torch.rand(3, dtype=torch.float64, requires_grad=True)
    for mode in ("per_sample", "released_scalar"):
        assert torch.autograd.gradcheck(lambda c, mode=mode: gsf_loss(c, s, mode=mode), (losses,))


def keys_and_queries(seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    queries = torch.randn(16, 32, dtype=torch.float64, generator=random)
    keys = torch.randn(10, 32, dtype=torch.float64, generator=random)
    return queries, keys, key_distances(queries, keys).argmin(1)


def literal(queries: Tensor, keys: Tensor, selected: Tensor, counts: Tensor, released: bool):
    """Section by section in plain Python."""

    def d(a: Tensor, b: Tensor) -> float:
        return 1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    among, to_query = [], []
    for i, s in enumerate(selected.tolist()):
        uses = counts[selected].tolist() if released else [counts[s].item()]
        for use in uses:
            among += [math.exp(d(keys[s], key) / (use + 1)) for key in keys]
            to_query.append(math.exp(d(queries[i], keys[s]) / (use + 1)))
    s_kk, s_qk = sum(among) / len(among), sum(to_query) / len(to_query)
    return -math.log(s_kk / (s_qk + s_kk) + 1e-6)


@pytest.mark.parametrize("mode", ["per_sample", "released_broadcast"])
def test_contrastive_keys_in_plain_python(mode) -> None:
    queries, keys, selected = keys_and_queries()
    counts = torch.tensor([0.0, 3, 50, 1, 0, 7, 9, 200, 2, 4])
    found = float(cvpt_loss(queries, keys, selected, counts, mode=mode))
    expected = literal(queries, keys, selected, counts, mode == "released_broadcast")
    assert found == pytest.approx(expected, rel=1e-9)
    equal = torch.full((10,), 5.0)
    both = [float(cvpt_loss(queries, keys, selected, equal, mode=m)) for m in
            ("per_sample", "released_broadcast")]  # fmt: skip
    assert both[0] == pytest.approx(both[1], rel=1e-12)
    other = "released_broadcast" if mode == "per_sample" else "per_sample"
    assert float(cvpt_loss(queries, keys, selected, counts, mode=other)) != found


def test_keys_stop_learning_as_counts_grow() -> None:
    queries, keys, selected = keys_and_queries()
    keys.requires_grad_(True)
    norms, losses, counts = [], [], (0, 10, 100, 1000, 5000)
    for count in counts:
        loss = cvpt_loss(queries, keys, selected, torch.full((10,), float(count)))
        losses.append(loss.item())
        norms.append(float(torch.autograd.grad(loss, [keys])[0].norm()))
    assert losses[-1] == pytest.approx(math.log(2), abs=1e-4)
    assert losses == sorted(losses)
    scaled = [norm * count for norm, count in zip(norms, counts, strict=True)]
    assert scaled[2:] == pytest.approx([scaled[-1]] * 3, rel=0.05)


@pytest.mark.parametrize("mode", ["per_sample", "released_broadcast"])
def test_gradients_of_the_contrastive_keys(mode) -> None:
    queries, keys, selected = keys_and_queries(1)
    counts = torch.arange(10.0)
    keys.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda k: cvpt_loss(queries[:4], k, selected[:4], counts, mode=mode), (keys,)
    )


def test_feature_scale_is_a_temperature_without_gradient() -> None:
    weight = torch.eye(3).requires_grad_(True)
    features = torch.tensor([[5.0, 0, 0], [0, -2.0, 0], [0, 0, 0.1]], requires_grad=True)
    found = feature_scale(features, weight, torch.tensor([0, 1, 0]))
    assert found.tolist() == pytest.approx([0.5, 2.5, 1.5])
    assert not found.requires_grad
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.0, torch.nan, 0.0], [0.0, 0.0, 1.0]])
    exposed = torch.tensor([True, True, False])
    found = feature_scale(features, weight, targets, exposed=exposed)
    assert found.tolist() == pytest.approx([1.5, 1.0, 1.0])
