"""GRAM: volumes against determinants, the loss against an oracle, what it cannot tell apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.gram import gram, gram_volume
from multimodal.objectives.views import TEXT, Views
from tests.multimodal.objectives.differences import by_differences
from tests.multimodal.objectives.oracles import leaf, numpy_unit

NAMES = (TEXT, "xray", "ecg")
IDS = np.array([0, 1, 0, 2, 1, 3])
THERE = np.array([1, 1, 0, 1, 1, 1], dtype=bool)


def vectors(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def determinant(rows: list[np.ndarray]) -> float:
    return float(np.linalg.det(np.array([[a @ b for b in rows] for a in rows])))


# ---- the volume -----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), others=st.integers(1, 5))
def test_volumes_are_roots_of_determinants(seed: int, others: int) -> None:
    a, rest = vectors(3, 7, seed=seed), vectors(others, 4, 7, seed=seed + 1)
    found = gram_volume(a, list(rest))
    units = [numpy_unit(x.numpy()) for x in (a, *rest)]
    for i in range(3):
        for j in range(4):
            expected = determinant([units[0][i], *(x[j] for x in units[1:])])
            assert found[i, j].item() == pytest.approx(math.sqrt(max(expected, 0)), abs=1e-9)


def test_of_three_views_it_is_the_closed_form() -> None:
    a, b, c = (normalize(x, dim=1) for x in vectors(3, 5, 6))
    x, y, z = (a * b).sum(1), (a * c).sum(1), (b * c).sum(1)
    expected = 1 - x**2 - y**2 - z**2 + 2 * x * y * z
    torch.testing.assert_close(gram_volume(a, [b, c]).diagonal() ** 2, expected)


def test_of_two_views_it_is_the_sine() -> None:
    a, b = vectors(2, 5, 6)
    cosines = normalize(a, dim=1) @ normalize(b, dim=1).T
    torch.testing.assert_close(gram_volume(a, [b]) ** 2, 1 - cosines**2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), which=st.integers(0, 2))
def test_order_rotation_and_sign_change_nothing(seed: int, which: int) -> None:
    views = list(vectors(3, 4, 5, seed=seed))
    turn = torch.linalg.qr(vectors(5, 5, seed=seed + 1))[0]
    own = gram_volume(views[0], views[1:]).diagonal()
    flipped = [x * (-1 if i == which else 1) for i, x in enumerate(views)]
    for changed in (views[::-1], [x @ turn for x in views], flipped, [3 * x for x in views]):
        torch.testing.assert_close(gram_volume(changed[0], changed[1:]).diagonal(), own)


@pytest.mark.parametrize(("others", "width", "mean"), [(2, 16, 0.820), (3, 128, 0.954)])
def test_random_directions_have_the_expected_volume(others, width, mean) -> None:
    k = others + 1
    product = math.prod((width - j) / width for j in range(1, k))
    assert product == pytest.approx(mean, abs=1e-3)
    a, rest = vectors(300, width), vectors(others, 300, width, seed=1)
    squares = gram_volume(a, list(rest)) ** 2
    assert squares.mean().item() == pytest.approx(product, abs=0.012)


def test_search_by_volume_finds_the_tuple_of_the_anchor() -> None:
    a = vectors(6, 16)
    rest = [a + 0.3 * vectors(6, 16, seed=i) for i in (1, 2)]
    assert gram_volume(a, rest).argmin(1).tolist() == list(range(6))


def test_gradients_are_finite_at_perfect_alignment_and_rank_deficient_tuples() -> None:
    for dtype in (torch.float32, torch.float64):
        x = vectors(4, 5).to(dtype)
        views = {name: x.clone().requires_grad_() for name in NAMES}
        loss = gram(views, torch.tensor(14.0))
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss.value, [*views.values()]))
        assert loss.terms["volume"] < 2e-3
    zero = torch.zeros(4, 5, requires_grad=True)
    (grad,) = torch.autograd.grad(
        gram({TEXT: x, "xray": zero, "ecg": zero}, torch.tensor(14.0)).value, zero
    )
    assert grad.isfinite().all()


# ---- the loss -------------------------------------------------------------------------------


def oracle(views: list[np.ndarray], s: float, smoothing: float, ids: np.ndarray) -> float:
    units = [numpy_unit(x) for x in views]
    count = len(units[0])
    logits = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            det = determinant([units[0][i], *(x[j] for x in units[1:])])
            logits[i, j] = -s * math.sqrt(max(det, 0.0) + 1e-6)
    values = []
    for x in (logits, logits.T):
        for i in range(count):
            kept = [j for j in range(count) if j == i or ids[j] != ids[i]]
            log_p = {j: x[i, j] - np.log(sum(np.exp(x[i, k]) for k in kept)) for j in kept}
            spread = float(np.mean([log_p[j] for j in kept]))
            values.append(-(1 - smoothing) * log_p[i] - smoothing * spread)
    return float(np.mean(values))


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("smoothing", "spared"), [(0.0, False), (0.1, True)])
def test_value_and_gradients_are_the_oracles(smoothing, spared, masked, tile) -> None:
    raw = [np.random.default_rng(i).normal(size=(6, 4)) for i in range(3)]
    keep = THERE if masked else np.ones_like(THERE)
    ids, scale = IDS if spared else np.arange(6), np.array(5.0)

    def slow(*arrays: np.ndarray) -> float:
        return oracle([x[keep] for x in arrays[:3]], float(arrays[3]), smoothing, ids[keep])

    leaves = [leaf(x) for x in (*raw, scale)]
    loss = gram(
        dict(zip(NAMES, leaves[:3], strict=True)),
        leaves[3],
        smoothing=smoothing,
        ids=torch.from_numpy(IDS) if spared else None,
        present={"ecg": torch.from_numpy(THERE)} if masked else None,
        tile=tile,
    )
    assert loss.value.item() == pytest.approx(slow(*raw, scale), rel=1e-10)
    grads = torch.autograd.grad(loss.value, leaves)
    for ours, expected in zip(grads, by_differences(slow, [*raw, scale]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-8)


def test_at_a_random_start_it_knows_next_to_nothing() -> None:
    views = {name: vectors(64, 512, seed=i) for i, name in enumerate(NAMES)}
    loss = gram(views, torch.tensor(1 / 0.07), smoothing=0.0)
    assert loss.terms["volume"].item() == pytest.approx(0.997, abs=0.003)
    assert loss.value.item() == pytest.approx(math.log(64), abs=0.02)


def test_collapsed_others_are_told_and_the_pairwise_term_sees_them() -> None:
    a, b = vectors(2, 6, 8)
    views = {TEXT: a, "xray": b, "ecg": b}
    plain = gram(views, torch.tensor(10.0))
    assert plain.terms["other_volume"] < 1e-5
    assert plain.terms["volume"] < 1e-5
    added = gram(views, torch.tensor(10.0), pairwise_weight=0.5)
    expected = plain.value + 0.5 * info_nce(a, b, torch.tensor(10.0)).value
    torch.testing.assert_close(added.value, expected)


def test_detached_candidates_send_nothing_back() -> None:
    """As released: the anchor learns from its own choice alone, the others from theirs."""
    leaves = {name: vectors(5, 6, seed=i).requires_grad_() for i, name in enumerate(NAMES)}
    loss = gram(leaves, torch.tensor(10.0), detach=True)
    plain = gram(leaves, torch.tensor(10.0))
    torch.testing.assert_close(loss.value, plain.value)
    found = torch.autograd.grad(loss.value, [*leaves.values()])

    def half(trained: str) -> Tensor:
        """The way in which the trained side is whole and the other side constant, on its own."""
        fixed = {n: x.detach().requires_grad_(n == trained) for n, x in leaves.items()}
        a, rest = fixed[TEXT], [fixed[name] for name in NAMES[1:]]
        logits = -10 * gram_volume(a, rest, floor=1e-6)
        rows = logits if trained == TEXT else logits.T
        value = torch.nn.functional.cross_entropy(rows, torch.arange(5), label_smoothing=0.1) / 2
        return torch.autograd.grad(value, fixed[trained])[0]

    for grad, name in zip(found, NAMES, strict=True):
        torch.testing.assert_close(grad, half(name))


def test_cases_without_all_views_are_in_the_pairs_they_have() -> None:
    x, e, t = (vectors(6, 4, seed=i) for i in range(3))
    there, scale = torch.from_numpy(THERE), torch.tensor(8.0)
    views = Views(
        {"xray": x, "ecg": e, TEXT: t}, t, torch.arange(6), scale, torch.tensor(0.0), {"ecg": there}
    )
    config: Any = OBJECTIVES.parse({"name": "gram", "pairwise_weight": 1.0, "smoothing": 0.0})
    whole = gram({"xray": x[there], "ecg": e[there], TEXT: t[there]}, scale, smoothing=0.0)
    pairs = info_nce(t, x, scale).value, info_nce(t[there], e[there], scale).value
    found = config.of_views(views, gather=False).value
    torch.testing.assert_close(found, whole.value + (pairs[0] + pairs[1]) / 2)


def test_no_case_or_one_case_costs_nothing() -> None:
    x = vectors(1, 4).requires_grad_()
    one = gram(dict.fromkeys(NAMES, x), torch.tensor(10.0))
    none = gram(dict.fromkeys(NAMES, x), torch.tensor(10.0), present={"ecg": torch.tensor([False])})
    for value in (one.value, none.value):
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert torch.autograd.grad(value, x)[0].isfinite().all()


# ---- settings -------------------------------------------------------------------------------


def test_two_views_and_absent_anchors_are_refused() -> None:
    config: Any = OBJECTIVES.parse("gram")
    with pytest.raises(ValueError, match=r"of two views \(xray, text\) the volume is"):
        config.check_views(("xray", TEXT))
    other: Any = OBJECTIVES.parse({"name": "gram", "anchor": "audio"})
    with pytest.raises(ValueError, match="anchor: no view 'audio'; there are xray, ecg, text"):
        other.check_views(("xray", "ecg", TEXT))
    with pytest.raises(ValueError, match="no view 'text'"):
        gram({"xray": vectors(2, 3)}, torch.tensor(1.0))
    with pytest.raises(ValueError, match="give anchors"):
        gram_volume(vectors(2, 3), [vectors(2, 3), vectors(1, 3)])
    with pytest.raises(ValueError, match="give the embeddings of one other view"):
        gram_volume(vectors(2, 3), [])
    with pytest.raises(ValueError, match="smoothing: 1"):
        gram(dict.fromkeys(NAMES, vectors(2, 3)), torch.tensor(1.0), smoothing=1.0)


def test_its_row_says_what_is_ours() -> None:
    config: Any = OBJECTIVES.parse("gram")
    assert config.row_name == "gram, pairwise 0.1 (ours)"
    other: Any = OBJECTIVES.parse(
        {"name": "gram", "pairwise_weight": 0.0, "learn_temperature": False, "temperature": 0.1}
    )
    assert other.row_name == "gram, fixed temperature, tau 0.1"
    assert config.start["scale"] == pytest.approx(1 / 0.07)
