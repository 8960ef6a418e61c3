from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from multimodal.objectives import Loss
from multimodal.objectives.contrastive import (
    info_nce,
    multi_positive,
    siglip,
    supervised_contrastive,
)
from tests.multimodal.objectives.oracles import gradients, leaf, numpy_unit, softmax_oracle

TILES = (None, 2)


def two_way_oracle(x: np.ndarray, targets: np.ndarray, allowed: np.ndarray) -> tuple:
    forth, back = softmax_oracle(x, targets, allowed), softmax_oracle(x.T, targets, allowed)
    return (forth[0] + back[0]) / 2, (forth[1] + back[1].T) / 2


def siglip_oracle(x: np.ndarray, positive: np.ndarray) -> tuple:
    z = np.where(positive, 1.0, -1.0)
    return np.log1p(np.exp(-z * x)).sum() / len(x), -z / (1 + np.exp(z * x)) / len(x)


IDS = np.array([0, 1, 1, 2, 0, 3, 1])
SAME, OWN = IDS[:, None] == IDS[None], np.eye(7, dtype=bool)
ALL = np.ones((7, 7), dtype=bool)
SMOOTH = 0.7 * np.eye(7) + 0.3 / 7
ids = torch.tensor(IDS)
LOSSES: dict[str, Callable[..., Loss]] = {
    "info_nce": lambda a, b, s, **k: info_nce(a, b, s, **k),
    "info_nce, ids": lambda a, b, s, **k: info_nce(a, b, s, ids=ids, **k),
    "info_nce, smoothed": lambda a, b, s, **k: info_nce(a, b, s, smoothing=0.3, **k),
    "info_nce, smoothed, ids": lambda a, b, s, **k: info_nce(a, b, s, smoothing=0.3, ids=ids, **k),
    "multi_positive": lambda a, b, s, **k: multi_positive(a, b, ids, s, **k),
    "siglip": lambda a, b, s, **k: siglip(a, b, s, torch.tensor(-2.0), **k),
    "siglip, ids": lambda a, b, s, **k: siglip(a, b, s, torch.tensor(-2.0), ids=ids, **k),
}
ORACLES: dict[str, Callable[[np.ndarray], tuple]] = {
    "info_nce": lambda x: two_way_oracle(x, OWN, ALL),
    "info_nce, ids": lambda x: two_way_oracle(x, OWN, ~SAME | OWN),
    "info_nce, smoothed": lambda x: two_way_oracle(x, SMOOTH, ALL),
    "info_nce, smoothed, ids": lambda x: two_way_oracle(x, SMOOTH * (~SAME | OWN), ~SAME | OWN),
    "multi_positive": lambda x: two_way_oracle(x, SAME, ALL),
    "siglip": lambda x: siglip_oracle(x - 2, OWN),
    "siglip, ids": lambda x: siglip_oracle(x - 2, SAME),
}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), s=st.floats(0.1, 30))
def test_value_and_gradients_are_the_oracles(name: str, tile: int | None, seed, s) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 7, 4))
    inputs = leaf(a), leaf(b), leaf(s)
    value = LOSSES[name](*inputs, tile=tile).value
    grads = torch.autograd.grad(value, inputs)
    expected, of_logits = ORACLES[name](s * numpy_unit(a) @ numpy_unit(b).T)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-9)
    for grad, gradient in zip(grads, gradients(a, b, s, of_logits), strict=True):
        np.testing.assert_allclose(grad, gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("tile", TILES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), s=st.floats(0.1, 30))
def test_supervised_contrastive_is_the_oracle(tile: int | None, seed, s) -> None:
    x = np.random.default_rng(seed).normal(size=(7, 4))
    inputs = leaf(x), leaf(s)
    value = supervised_contrastive(inputs[0], ids, inputs[1], tile=tile).value
    of_x, of_s = torch.autograd.grad(value, inputs)
    expected, g = softmax_oracle(s * numpy_unit(x) @ numpy_unit(x).T, SAME & ~OWN, ~OWN)
    of_rows, of_columns, of_scale = gradients(x, x, s, g)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-9)
    np.testing.assert_allclose(of_x, of_rows + of_columns, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(of_s, of_scale, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("tile", TILES)
def test_bias_of_siglip_has_the_oracles_gradient(tile: int | None) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7, 4))
    bias = leaf(-1.5)
    value = siglip(leaf(a), leaf(b), leaf(5.0), bias, tile=tile).value
    (grad,) = torch.autograd.grad(value, bias)
    _, of_logits = siglip_oracle(5 * numpy_unit(a) @ numpy_unit(b).T - 1.5, OWN)
    np.testing.assert_allclose(grad, of_logits.sum(), rtol=1e-9)


GRID = 4 * torch.arange(6, dtype=torch.float64)[:, None] + torch.arange(4)
S, T = torch.sin(1 + GRID), torch.cos(0.5 + GRID) + 0.3
CLASSES = torch.tensor([0, 0, 1, 2, 2, 3])


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("tau", "same_class", "paired", "supervised"),
    [
        (0.1, 14.045772307169173, 7.941407935745145, 15.783572693598012),
        (1.0, 3.7042269129566154, 3.0937904758142123, 2.330094221085571),
    ],
)
def test_golden_values(tau, same_class, paired, supervised, tile) -> None:
    # Of the COCONUT fixture; those of pairs are sums of both directions.
    scale = torch.tensor(1 / tau, dtype=torch.float64)
    for value, expected in (
        (2 * multi_positive(S, T, CLASSES, scale, tile=tile).value, same_class),
        (2 * info_nce(S, T, scale, tile=tile).value, paired),
        (supervised_contrastive(S, CLASSES, scale, tile=tile).value, supervised),
    ):
        assert value.item() == pytest.approx(expected, abs=1e-9)


def random_pair(d: int = 5, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    a, b = torch.randn(2, 6, d, generator=torch.Generator().manual_seed(6)).to(dtype)
    return a, b, torch.tensor(10.0)


def all_values(a: Tensor, b: Tensor, scale: Tensor, labels: Tensor, tile=None) -> Tensor:
    losses = (
        info_nce(a, b, scale, tile=tile),
        info_nce(a, b, scale, ids=labels, tile=tile),
        multi_positive(a, b, labels, scale, tile=tile),
        supervised_contrastive(a, labels, scale, tile=tile),
        siglip(a, b, scale, torch.tensor(-3.0), tile=tile),
    )
    return torch.stack([loss.value for loss in losses])


def test_info_nce_is_the_mean_of_two_cross_entropies() -> None:
    a, b, scale = random_pair()
    logits, pairs = scale * normalize(a) @ normalize(b).T, torch.arange(len(a))
    loss = info_nce(a, b, scale)
    forth, back = cross_entropy(logits, pairs), cross_entropy(logits.T, pairs)
    torch.testing.assert_close(loss.value, (forth + back) / 2)
    torch.testing.assert_close(loss.terms["a_to_b"], forth)
    torch.testing.assert_close(loss.terms["b_to_a"], back)
    assert loss.terms["scale"] == 10


def test_smoothing_is_that_of_torch() -> None:
    a, b = normalize(torch.randn(2, 6, 4), dim=2)
    logits, own = 7 * a @ b.T, torch.arange(6)
    forth, back = (cross_entropy(x, own, label_smoothing=0.5) for x in (logits, logits.T))
    value = info_nce(a, b, torch.tensor(7.0), smoothing=0.5).value
    torch.testing.assert_close(value, (forth + back) / 2)
    with pytest.raises(ValueError, match=r"smoothing: 1.0; give a share"):
        info_nce(a, b, torch.tensor(7.0), smoothing=1.0)


def test_distinct_ids_change_nothing() -> None:
    a, b, scale = random_pair()
    own = torch.arange(len(a))
    plain = info_nce(a, b, scale).value
    torch.testing.assert_close(info_nce(a, b, scale, ids=own).value, plain)
    torch.testing.assert_close(multi_positive(a, b, own, scale).value, plain)
    pairs, with_ids = (siglip(a, b, scale, -scale, ids=i).value for i in (None, own))
    torch.testing.assert_close(with_ids, pairs)


@pytest.mark.parametrize("tile", TILES)
def test_order_and_length_do_not_matter(tile: int | None) -> None:
    a, b, scale = random_pair()
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    values = all_values(a, b, scale, CLASSES, tile)
    moved = all_values(7 * a[order], b[order] / 9, scale, CLASSES[order], tile)
    torch.testing.assert_close(values, moved)


@pytest.mark.parametrize("tile", TILES)
def test_scale_zero_and_a_single_pair(tile: int | None) -> None:
    a, b, _ = random_pair()
    assert info_nce(a, b, torch.tensor(0.0), tile=tile).value.item() == pytest.approx(np.log(6))
    one = all_values(a[:1], b[:1], torch.tensor(10.0), CLASSES[:1], tile)
    assert one[:4].tolist() == [0, 0, 0, 0]
    pair = siglip(a, b, torch.tensor(0.0), torch.tensor(0.0), tile=tile).value
    assert pair.item() == pytest.approx(6 * np.log(2))  # N logistic losses of 0 a row


@pytest.mark.parametrize("tile", TILES)
def test_rows_without_positives_are_skipped(tile: int | None) -> None:
    x = random_pair()[0].requires_grad_()
    loss = supervised_contrastive(x, torch.arange(6), torch.tensor(10.0), tile=tile)
    loss.value.backward()
    assert loss.value.item() == 0
    assert x.grad is not None
    assert (x.grad == 0).all()
    assert loss.terms["anchors"] == 0
    loss = supervised_contrastive(x, CLASSES, torch.tensor(10.0), tile=tile)
    assert loss.terms["anchors"].item() == pytest.approx(4 / 6)
    assert loss.terms["positives"].item() == pytest.approx(4 / 6)


@pytest.mark.parametrize("tile", TILES)
def test_accuracies_count_ties_as_wrong(tile: int | None) -> None:
    eye, scale = torch.eye(4), torch.tensor(10.0)
    terms = info_nce(eye, eye, scale, tile=tile).terms
    assert terms["accuracy_a_to_b"] == terms["accuracy_b_to_a"] == 1
    terms = info_nce(torch.ones(4, 4), eye, scale, tile=tile).terms  # a collapsed tower
    assert terms["accuracy_a_to_b"] == terms["accuracy_b_to_a"] == 0
    terms = info_nce(eye[[0, 1, 1]], eye[[0, 1, 2]], scale, tile=tile).terms
    assert terms["accuracy_a_to_b"].item() == pytest.approx(2 / 3)
    assert terms["accuracy_b_to_a"].item() == pytest.approx(1 / 3)
    same = torch.tensor([0, 1, 1])
    terms = info_nce(eye[[0, 1, 1]], eye[[0, 1, 2]], scale, ids=same, tile=tile).terms
    assert terms["accuracy_b_to_a"].item() == pytest.approx(2 / 3)


def test_terms_of_siglip_add_up() -> None:
    a, b, scale = random_pair()
    loss = siglip(a, b, scale, torch.tensor(-3.0))
    own = -logsigmoid(10 * (normalize(a) * normalize(b)).sum(1) - 3).mean()
    torch.testing.assert_close(loss.terms["own"], own)
    torch.testing.assert_close(own + loss.terms["rest"], loss.value)
    assert loss.terms["bias"] == -3


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, tile: int | None) -> None:
    a, b, scale = random_pair(d=64, dtype=dtype)
    expected = all_values(a.double(), b.double(), scale.double(), CLASSES, tile)
    values = all_values(a, b, scale, CLASSES, tile)
    torch.testing.assert_close(values, expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_autocast_changes_nothing(tile: int | None) -> None:
    a, b, scale = random_pair(d=64)
    plain = all_values(a.requires_grad_(), b, scale, CLASSES, tile)
    (expected,) = torch.autograd.grad(plain.sum(), a)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = all_values(a, b, scale, CLASSES, tile)
        assert torch.equal(values, plain)
        if tile is not None:  # PyTorch's own backward under autocast is the caller's affair
            assert torch.equal(torch.autograd.grad(values.sum(), a)[0], expected)


@pytest.mark.parametrize("tile", TILES)
def test_extreme_inputs_stay_finite(tile: int | None) -> None:
    a, b, _ = random_pair()
    a[0] = 0  # a silent recording
    a.requires_grad_()
    values = all_values(a, b, torch.tensor(1e4), CLASSES, tile)
    values.sum().backward()
    assert values.isfinite().all()
    assert a.grad is not None
    assert a.grad.isfinite().all()


A, B, ONE = torch.randn(4, 3), torch.randn(4, 3), torch.tensor(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: info_nce(A, B[:3], ONE), r"a: shape \(4, 3\), b: shape \(3, 3\)"),
        (lambda: info_nce(A[:0], B[:0], ONE), r"a: shape \(0, 3\); give N > 0"),
        (lambda: siglip(A[0], B[0], ONE, ONE), r"a: shape \(3,\)"),
        (lambda: supervised_contrastive(A[0], torch.zeros(4), ONE), r"x: shape \(3,\)"),
        (lambda: info_nce(A, B, torch.ones(3)), r"scale: shape \(3,\); give a tensor of one"),
        (lambda: siglip(A, B, ONE, torch.ones(4)), r"bias: shape \(4,\)"),
        (lambda: info_nce(A, B, ONE, ids=torch.arange(3)), r"ids: shape \(3,\) .*give 4 integers"),
        (lambda: multi_positive(A, B, torch.zeros(4), ONE), r"ids: .* torch.float32; give 4"),
        (lambda: supervised_contrastive(A, torch.zeros(5), ONE), r"labels: shape \(5,\)"),
        (lambda: info_nce(A, B, ONE, tile=0), "tile: 0 rows a tile; give at least 1"),
        (lambda: siglip(A, B, ONE, ONE, tile=-2), "tile: -2"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Loss], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
