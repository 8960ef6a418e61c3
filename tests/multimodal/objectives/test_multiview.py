"""Multi-view InfoNCE and DHEL: closed forms, a NumPy oracle, cases that lack views."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.multiview import MvDhelConfig, mv_dhel, mv_info_nce
from multimodal.objectives.views import TEXT, Views
from tests.multimodal.objectives.differences import by_differences
from tests.multimodal.objectives.oracles import leaf, numpy_unit

LOSSES = {"mv_infonce": mv_info_nce, "mv_dhel": mv_dhel}
NAMES = ("xray", "ecg", TEXT)
THERE = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
IDS = np.array([0, 1, 0, 2, 1])


def oracle(name: str, views: list[np.ndarray], s: float, there: np.ndarray, ids: np.ndarray):
    """Term by term, as the equations are written."""
    units = [numpy_unit(x) for x in views]
    count, width = there.shape
    values = []
    for i in range(count):
        own = [view for view in range(width) if there[i, view]]
        if len(own) < 2:
            continue
        pairs = [(k, m) for k in own for m in own if k < m]
        attraction = math.log(sum(math.exp(s * units[k][i] @ units[m][i]) for k, m in pairs))
        sums = []
        for k in own:
            others = [
                (j, m)
                for j in range(count)
                for m in range(width)
                if there[j, m] and (j, m) != (i, k) and (j == i or ids[j] != ids[i])
            ]
            if name == "mv_dhel":
                others = [(j, m) for j, m in others if j != i and m == k]
            sums.append(sum(math.exp(s * units[k][i] @ units[m][j]) for j, m in others))
        if name == "mv_dhel":
            values.append(-attraction + sum(math.log(x) for x in sums if x))
        else:
            values.append(-(attraction + math.log(2)) + math.log(sum(sums)))
    return float(np.mean(values))


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("spared", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradients_are_the_oracles(name, spared, masked, tile) -> None:
    raw = [np.random.default_rng(i).normal(size=(5, 4)) for i in range(3)]
    there = THERE if masked else np.ones_like(THERE)
    ids = IDS if spared else np.arange(5)
    scale = np.array(3.0)

    def slow(*arrays: np.ndarray) -> float:
        return oracle(name, list(arrays[:3]), float(arrays[3]), there, ids)

    leaves = [leaf(x) for x in (*raw, scale)]
    present = {n: torch.from_numpy(there[:, i]) for i, n in enumerate(NAMES)}
    loss = LOSSES[name](
        dict(zip(NAMES, leaves[:3], strict=True)),
        leaves[3],
        ids=torch.from_numpy(IDS) if spared else None,
        present=present if masked else None,
        tile=tile,
    )
    assert loss.value.item() == pytest.approx(slow(*raw, scale), rel=1e-12)
    grads = torch.autograd.grad(loss.value, leaves)
    for ours, expected in zip(grads, by_differences(slow, [*raw, scale]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-8)


# ---- closed forms ---------------------------------------------------------------------------


def test_three_equal_views_attract_by_log_three_and_the_scale() -> None:
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for loss in LOSSES.values():
        terms = loss(dict.fromkeys(NAMES, x), torch.tensor(2.0, dtype=torch.float64)).terms
        assert terms["attraction"].item() == pytest.approx(3.0986, abs=5e-5)
        assert terms["cosine"].item() == pytest.approx(1)
        assert terms["views"] == 3


def two_views(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, count, 5, generator=random, dtype=torch.float64)
    return normalize(a, dim=1), normalize(b, dim=1)


def test_of_two_views_it_is_dhel() -> None:
    a, b = two_views()
    others = ~torch.eye(len(a), dtype=torch.bool)

    def apart(x: torch.Tensor) -> torch.Tensor:
        return torch.log(((4.0 * x @ x.T).exp() * others).sum(1))

    expected = (-4.0 * (a * b).sum(1) + apart(a) + apart(b)).mean()
    found = mv_dhel({"s": a, TEXT: b}, torch.tensor(4.0, dtype=torch.float64)).value
    torch.testing.assert_close(found, expected)


def test_of_two_views_it_is_at_least_nt_xent_and_that_where_denominators_agree() -> None:
    def nt_xent(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        x = torch.cat([a, b])
        logits = (4.0 * x @ x.T).fill_diagonal_(-torch.inf)
        positives = 4.0 * (a * b).sum(1).repeat(2)
        return (logits.logsumexp(1) - positives).mean()

    four = torch.tensor(4.0, dtype=torch.float64)
    a, b = two_views()
    assert mv_info_nce({"s": a, TEXT: b}, four).value > nt_xent(a, b) + 1e-6
    # Where both views are the same, so are both rows' denominators.
    torch.testing.assert_close(mv_info_nce({"s": a, TEXT: a}, four).value, nt_xent(a, a))


def test_one_case_costs_nothing_or_its_attraction() -> None:
    a, b = two_views(1)
    leaf_ = a.clone().requires_grad_()
    four = torch.tensor(4.0, dtype=torch.float64)
    alone = mv_info_nce({"s": leaf_, TEXT: b}, four).value
    assert alone.item() == pytest.approx(0, abs=1e-12)
    loss = mv_dhel({"s": leaf_, TEXT: b}, four)
    assert loss.value.item() == pytest.approx(-4 * (a * b).sum().item())
    assert loss.terms["repulsion"] == 0
    (grad,) = torch.autograd.grad(loss.value, leaf_)
    assert grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES.values())
def test_nobody_is_left_out_of_nothing(loss: Any) -> None:
    """No case has two views, or all have one text: 0 or finite, with finite gradients."""
    a, b = (x.clone().requires_grad_() for x in two_views(4))
    scale = torch.tensor(100.0)
    left = torch.tensor([True, False, True, False])
    apart = loss({"s": a, TEXT: b}, scale, present={"s": left, TEXT: ~left})
    assert apart.value.item() == 0
    alike = loss({"s": a, TEXT: b}, scale, ids=torch.zeros(4, dtype=torch.int64))
    assert alike.value.isfinite()
    for found in (apart, alike):
        assert all(g.isfinite().all() for g in torch.autograd.grad(found.value, [a, b]))


@pytest.mark.parametrize("loss", LOSSES.values())
def test_eight_collapsed_views_of_256_cases_do_not_overflow(loss) -> None:
    """The product of their eight sums would be 1e54 at tau 0.1; half precision ends at 65504."""
    x = torch.ones(256, 4, dtype=torch.float16)
    views = {f"v{i}": x for i in range(8)}
    value = loss(views, torch.tensor(100.0)).value
    assert value.dtype == torch.float32
    if loss is mv_dhel:
        assert value.item() == pytest.approx(8 * (100 + math.log(255)) - 100 - math.log(28))
    else:
        expected = math.log(8 * (256 * 8 - 1)) - math.log(28) - math.log(2)
        assert value.item() == pytest.approx(expected, abs=1e-4)


# ---- settings -------------------------------------------------------------------------------


def test_their_configs_take_all_views_at_once() -> None:
    random = torch.Generator().manual_seed(3)
    x, e, t = torch.randn(3, 6, 4, generator=random)
    ids, scale = torch.tensor([0, 1, 0, 2, 3, 1]), torch.tensor(10.0)
    there = torch.tensor([True, True, False, True, True, True])
    views = Views({"xray": x, "ecg": e, TEXT: t}, t, ids, scale, torch.tensor(0.0), {"ecg": there})
    for name, loss in LOSSES.items():
        for spared in (False, True):
            config: Any = OBJECTIVES.parse({"name": name, "mask_duplicates": spared, "tile": 4})
            expected = loss(
                views.embeddings, scale, ids=ids if spared else None, present={"ecg": there}
            )
            torch.testing.assert_close(config.of_views(views, gather=False).value, expected.value)


def test_rows_say_what_is_not_as_usual() -> None:
    assert MvDhelConfig().row_name == "mv_dhel"
    other = MvDhelConfig(temperature=0.5, learn_temperature=True)
    assert other.row_name == "mv_dhel, learned temperature, tau 0.5"
    assert other.start["scale"] == 2
    with pytest.raises(ValidationError, match="begin in"):
        MvDhelConfig(temperature=2.0, learn_temperature=True)


def test_what_does_not_fit_is_named() -> None:
    x, scale = torch.eye(3), torch.tensor(5.0)
    with pytest.raises(ValueError, match="views: text; give two views"):
        mv_dhel({TEXT: x}, scale)
    with pytest.raises(ValueError, match=r"text has shape \(2, 3\), xray \(3, 3\)"):
        mv_info_nce({"xray": x, TEXT: x[:2]}, scale)
    with pytest.raises(ValueError, match="ids: shape"):
        mv_dhel({"xray": x, TEXT: x}, scale, ids=torch.arange(2))
    with pytest.raises(ValueError, match="present: shape"):
        mv_dhel({"xray": x, TEXT: x}, scale, present={"xray": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ValueError, match="tile: 0 rows"):
        mv_dhel({"xray": x, TEXT: x}, scale, tile=0)
