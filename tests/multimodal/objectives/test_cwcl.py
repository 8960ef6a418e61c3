from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.cwcl import cwcl
from tests.multimodal.objectives.oracles import gradients, leaf, numpy_unit, softmax_oracle

TILES = (None, 2)
ANCHORS = ("trained", "frozen")
# The exact example of the specification.
Q = torch.tensor([[1, 0], [0, 1], [0.6, 0.8]], dtype=torch.float64)
P = torch.tensor([[0.8, 0.6], [0, 1], [0.28, 0.96]], dtype=torch.float64)
TEN = torch.tensor(10.0, dtype=torch.float64)
IDENTITY: dict[str, Any] = {"kernel": "threshold", "sharpness": 1.0}  # W = I: only W_ii is 1


def kernel_oracle(cosine: np.ndarray, kernel: str = "linear", sharpness: Any = None) -> np.ndarray:
    w = (cosine + 1) / 2
    if kernel == "power":
        w = w**sharpness
    elif kernel == "exp":
        w = np.exp((cosine - 1) / sharpness)
    elif kernel == "threshold":
        w = np.where(w >= sharpness, w, 0)
    np.fill_diagonal(w, 1)
    return w


def oracle(p: np.ndarray, q: np.ndarray, s: float, w: np.ndarray, anchor: str, plain: float):
    """The value, d value / d logits s <p_i, q_j>, and the two directions."""
    x, own, all_ = s * numpy_unit(p) @ numpy_unit(q).T, np.eye(len(p)), w >= 0
    forth, back = (x, x.T) if anchor == "trained" else (x.T, x)
    weighted, g_forth = softmax_oracle(forth, w, all_)
    other, g_back = softmax_oracle(back, own, all_)
    g = g_forth + plain * g_back.T
    return weighted + plain * other, g if anchor == "trained" else g.T, weighted, other


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("anchor", ANCHORS)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    s=st.floats(0.1, 30),
    plain=st.floats(0.1, 2),
    kernel=st.sampled_from([("linear", None), ("power", 3.0), ("exp", 0.2), ("threshold", 0.5)]),
)
def test_value_and_gradients_are_the_oracles(anchor, tile, seed, s, plain, kernel) -> None:
    p, q = np.random.default_rng(seed).normal(size=(2, 5, 3))
    w = kernel_oracle(numpy_unit(q) @ numpy_unit(q).T, *kernel)
    inputs = leaf(p), leaf(q), leaf(s)  # q as from a trained head: a gradient through logits only
    options = {"anchor": anchor, "kernel": kernel[0], "sharpness": kernel[1], "tile": tile}
    loss = cwcl(*inputs, plain_weight=plain, **options)
    grads = torch.autograd.grad(loss.value, inputs)
    expected, of_logits, weighted, other = oracle(p, q, s, w, anchor, plain)
    t = w / w.sum(1, keepdims=True)
    entropy = -np.where(t > 0, t * np.log(np.where(t > 0, t, 1)), 0).sum(1).mean()
    np.testing.assert_allclose(loss.value.item(), expected, rtol=1e-9)
    for grad, gradient in zip(grads, gradients(p, q, s, of_logits), strict=True):
        np.testing.assert_allclose(grad, gradient, rtol=1e-8, atol=1e-10)
    for name, value in {
        "weighted": weighted,
        "plain": other,
        "target_entropy": entropy,
        "kl": weighted - entropy,
        "effective_positives": np.exp(entropy),
        "true_pair_mass": np.diag(t).mean(),
    }.items():
        np.testing.assert_allclose(loss.terms[name], value, rtol=1e-9, err_msg=name)
    assert loss.terms["kl"] >= 0


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("anchor", "weighted", "plain", "total", "kl"),
    [
        ("trained", 2.443200, 0.485716, 2.928916, 1.371506),
        ("frozen", 2.123510, 0.918100, 3.041611, 1.051816),
    ],
)
def test_exact_example(anchor, weighted, plain, total, kl, tile) -> None:
    loss = cwcl(P, Q, TEN, anchor=anchor, tile=tile)
    assert loss.value.item() == pytest.approx(total, abs=1e-6)
    expected = {
        "weighted": weighted,
        "plain": plain,
        "kl": kl,
        "target_entropy": 1.071694,
        "effective_positives": 2.920322,
        "true_pair_mass": (0.434783 + 0.416667 + 0.370370) / 3,
        "mean_offdiag_cosine": (0 + 0.6 + 0.8) / 3,
        "scale": 10,
        "accuracy_trained_to_frozen": 1 / 3,  # logits [8, 6, 9.6], [0, 10, 8], [2.8, 9.6, 9.36]
        "accuracy_frozen_to_trained": 2 / 3,
    }
    assert loss.terms.keys() == expected.keys()
    for name, value in expected.items():
        assert loss.terms[name].item() == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_identity_weights_give_twice_info_nce(anchor, tile) -> None:
    value = cwcl(P, Q, TEN, anchor=anchor, tile=tile, **IDENTITY).value
    assert value.item() == pytest.approx(1.403817, abs=1e-6)
    pairs, logits = torch.arange(3), 10 * P @ Q.T
    torch.testing.assert_close(value, cross_entropy(logits, pairs) + cross_entropy(logits.T, pairs))
    torch.testing.assert_close(value, 2 * info_nce(P, Q, TEN).value)
    halved = cwcl(P, Q, TEN, anchor=anchor, reduction="mean", tile=tile, **IDENTITY).value
    torch.testing.assert_close(halved, info_nce(P, Q, TEN).value)


def random_pair(n: int = 6, d: int = 5) -> tuple[Tensor, Tensor]:
    p, q = torch.randn(2, n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    return p, q


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_simple_identities(anchor, tile) -> None:
    p, q = random_pair()
    value = cwcl(p, q, TEN, anchor=anchor, tile=tile).value
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    moved = cwcl(3 * p[order], q[order] / 7, TEN, anchor=anchor, tile=tile).value
    torch.testing.assert_close(value, moved)
    assert cwcl(p[:1], q[:1], TEN, anchor=anchor, tile=tile).value == 0
    flat = cwcl(p, q, torch.tensor(0.0), anchor=anchor, tile=tile).value
    assert flat.item() == pytest.approx(2 * np.log(6))
    # All frozen items alike: uniform targets, never below log N.
    terms = cwcl(p, q[:1].expand(6, -1), TEN, anchor=anchor, tile=tile).terms
    assert terms["effective_positives"].item() == pytest.approx(6)
    assert terms["weighted"] >= np.log(6) - 1e-12
    assert terms["mean_offdiag_cosine"].item() == pytest.approx(1)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_kl_is_zero_where_the_softmax_is_the_target(anchor, tile) -> None:
    # exp((cos - 1) / tau) over its sum is the softmax of cos / tau: with p = q, s = 1 / tau.
    p, _ = random_pair()
    options: dict[str, Any] = {"anchor": anchor, "kernel": "exp", "sharpness": 0.1, "tile": tile}
    p.requires_grad_()
    loss = cwcl(p, p.detach(), TEN, plain_weight=0.1, **options)
    assert loss.terms["kl"].item() == pytest.approx(0, abs=1e-12)
    # Nothing but the plain direction, a tenth of it, pulls.
    (grad,) = torch.autograd.grad(loss.value, p)
    (of_both,) = torch.autograd.grad(cwcl(p, p.detach(), TEN, **options).value, p)
    torch.testing.assert_close(10 * grad, of_both)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_weights_come_from_the_source_and_have_no_gradient(anchor, tile) -> None:
    p, q = random_pair()
    source = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    p.requires_grad_()
    loss = cwcl(p, q, TEN, anchor=anchor, similarity_source=source, tile=tile)
    loss.value.backward()
    assert source.grad is None
    assert q.grad is None
    unit = numpy_unit(source.detach().numpy())
    w = kernel_oracle(unit @ unit.T)
    expected = oracle(p.detach().numpy(), q.numpy(), 10.0, w, anchor, 1.0)[0]
    assert loss.value.item() == pytest.approx(expected, rel=1e-9)
    same = cwcl(p, q, TEN, anchor=anchor, similarity_source=q, tile=tile).value
    torch.testing.assert_close(same, cwcl(p, q, TEN, anchor=anchor, tile=tile).value)


@pytest.mark.parametrize("tile", TILES)
def test_edges_of_the_weights(tile) -> None:
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # W = 1 is not below 1
    terms = cwcl(twins, twins, torch.tensor(10.0), tile=tile, **IDENTITY).terms
    assert terms["true_pair_mass"].item() == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    silent = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # W_ii = 1 also where the cosine is 0
    terms = cwcl(silent, silent, torch.tensor(10.0), tile=tile).terms
    assert terms["true_pair_mass"].item() == pytest.approx(1 / (1 + 1 / 2))


def with_cosine(m: float, n: int) -> Tensor:
    """n unit vectors, every two of cosine m."""
    shared = torch.full((n, 1), m**0.5)
    return torch.cat([shared, (1 - m) ** 0.5 * torch.eye(n)], 1)


@pytest.mark.parametrize(
    ("kernel", "sharpness", "n", "m", "percent"),
    [
        ("linear", None, 256, 0.0, 0.778),
        ("linear", None, 256, 0.6, 0.488),
        ("linear", None, 1024, 0.9, 0.103),
        ("power", 8.0, 1024, 0.0, 20.0),
        ("power", 8.0, 1024, 0.6, 0.58),
        ("exp", 0.1, 1024, 0.0, 95.6),
        ("exp", 0.1, 1024, 0.3, 51.7),
        ("exp", 0.07, 1024, 0.6, 22.9),
    ],
)
def test_mass_of_the_true_pair(kernel, sharpness, n, m, percent) -> None:
    options = {"kernel": kernel, "sharpness": sharpness, "similarity_source": with_cosine(m, n)}
    terms = cwcl(torch.ones(n, 2), torch.ones(n, 2), torch.tensor(14.3), tile=256, **options).terms
    assert 100 * terms["true_pair_mass"].item() == pytest.approx(percent, rel=5e-3)
    assert terms["mean_offdiag_cosine"].item() == pytest.approx(m, abs=1e-5)


def test_entropy_of_orthogonal_items() -> None:
    q = with_cosine(0.0, 1024)
    terms = cwcl(q, q, torch.tensor(14.3)).terms
    assert terms["effective_positives"].item() == pytest.approx(1023.6, abs=0.05)


def test_centre_is_taken_off_before_the_weights() -> None:
    q = with_cosine(0.8, 16)
    centre = normalize(q).mean(0)
    terms = cwcl(q, q, torch.tensor(14.3), centre=centre).terms
    assert terms["mean_offdiag_cosine"].item() == pytest.approx(-1 / 15, abs=1e-5)  # a simplex
    loss, moved = cwcl(q, q, TEN, centre=torch.zeros(17)), cwcl(q, q, TEN)
    torch.testing.assert_close(loss.value, moved.value)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_duplicates_leave_the_plain_direction(anchor, tile) -> None:
    p, q = random_pair()
    q[1] = q[0]
    ids = torch.tensor([0, 0, 1, 2, 3, 4])
    kept, masked = (cwcl(p, q, TEN, anchor=anchor, ids=i, tile=tile).terms for i in (None, ids))
    torch.testing.assert_close(kept["weighted"], masked["weighted"])
    logits = 10 * normalize(p) @ normalize(q).T
    logits[0, 1] = logits[1, 0] = -torch.inf
    back = logits.T if anchor == "trained" else logits
    torch.testing.assert_close(masked["plain"], cross_entropy(back, torch.arange(6)))
    assert masked["plain"] < kept["plain"]


def test_flat_targets_alone_are_warned_of() -> None:
    q = with_cosine(0.8, 64)
    ten = torch.tensor(10.0)
    with pytest.warns(UserWarning, match="a true pair has only 1.11 times the uniform share"):
        loss = cwcl(q, q, ten, plain_weight=0.0)
    torch.testing.assert_close(loss.value, loss.terms["weighted"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cwcl(q, q, ten)
        cwcl(q, q, ten, plain_weight=0.0, kernel="exp", sharpness=0.05)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(dtype, tile) -> None:
    p, q = (x.to(dtype) for x in random_pair(d=64))
    ten = torch.tensor(10.0)
    exact = cwcl(p.double(), q.double(), TEN, tile=tile)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cwcl(p, q, ten, tile=tile)
    assert loss.value.dtype == torch.float32
    for name, value in exact.terms.items():
        torch.testing.assert_close(loss.terms[name].double(), value.double(), rtol=1e-4, atol=1e-6)


X, ONE = torch.randn(4, 3), torch.tensor(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor": "text"}, "anchor: 'text'; choose one of trained, frozen"),
        ({"reduction": "none"}, "reduction: 'none'; choose one of sum, mean"),
        ({"kernel": "cubic"}, "kernel: 'cubic'; choose one of linear, power, exp, threshold"),
        ({"sharpness": 2.0}, "sharpness: 2.0; the linear kernel takes none"),
        ({"kernel": "exp"}, "sharpness: None; the exp kernel needs a number above 0"),
        ({"kernel": "power", "sharpness": -1.0}, "sharpness: -1.0; the power kernel"),
        ({"kernel": "exp", "sharpness": float("nan")}, "sharpness: nan; the exp kernel"),
        ({"similarity_source": X[:3]}, "similarity_source: 3 rows; give one for each of the 4"),
        ({"similarity_source": X[:, 0]}, r"similarity_source: shape \(4,\)"),
        ({"centre": torch.zeros(4)}, r"centre: shape \(4,\); .* width, \(3,\)"),
        ({"ids": torch.zeros(4)}, "ids: .* torch.float32; give 4 integers"),
        ({"tile": 0}, "tile: 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cwcl(X, X, ONE, **options)


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"trained: shape \(4, 3\), frozen: shape \(4, 2\)"):
        cwcl(X, X[:, :2], ONE)
    with pytest.raises(ValueError, match=r"scale: shape \(2,\)"):
        cwcl(X, X, torch.ones(2))
