"""iSogCLR: gradients of value and temperatures, a NumPy diary of visits, what is kept."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.isogclr import Pace, isogclr
from multimodal.objectives.tools.samples import SampleTables
from multimodal.objectives.views import Pairs
from tests.multimodal.objectives.differences import by_differences
from tests.multimodal.objectives.oracles import leaf, numpy_unit

NEVER = torch.full((5, 6), torch.nan, dtype=torch.float64)
ROWS = torch.arange(5)
FIXED = Pace(gamma=1.0, eta=0.0, tau=0.3)


def pair(seed: int = 0, count: int = 5) -> tuple[Tensor, Tensor]:
    a, b = np.random.default_rng(seed).normal(size=(2, count, 4))
    return leaf(a), leaf(b)


def gaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, N) h of both sides."""
    s = numpy_unit(a) @ numpy_unit(b).T
    own = np.diag(s)[:, None]
    return s - own, s.T - own


def others(h: np.ndarray, i: int) -> np.ndarray:
    return np.delete(h[i], i)


@pytest.mark.parametrize("tile", [None, 2])
def test_with_fixed_temperatures_and_no_past_it_is_dcl_times_tau(tile) -> None:
    a, b = pair()

    def robust(x: np.ndarray, y: np.ndarray) -> float:
        sides = gaps(x, y)
        of = [0.3 * np.log(np.mean(np.exp(others(h, i) / 0.3))) for h in sides for i in range(5)]
        return float(np.mean(of))

    loss, kept = isogclr(a, b, NEVER, ROWS, pace=FIXED, tile=tile)
    raw = [x.detach().numpy() for x in (a, b)]
    assert loss.value.item() == pytest.approx(robust(*raw))
    grads = torch.autograd.grad(loss.value, [a, b])
    for ours, expected in zip(grads, by_differences(robust, raw), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)
    # Decoupled InfoNCE: the positive is not among its candidates.
    c, d = (x.detach().clone().requires_grad_() for x in (a, b))
    logits = torch.nn.functional.normalize(c, dim=1) @ torch.nn.functional.normalize(d, dim=1).T
    logits = logits / 0.3
    apart = logits.masked_fill(torch.eye(5, dtype=torch.bool), -torch.inf)
    dcl = torch.stack([x.logsumexp(1) - logits.diagonal() for x in (apart, apart.T)]).mean()
    for ours, expected in zip(grads, torch.autograd.grad(dcl, [c, d]), strict=True):
        torch.testing.assert_close(ours, 0.3 * expected)
    assert (kept[:, 1] == 0.3).all()


def test_the_slope_of_a_temperature_is_rho_minus_kl() -> None:
    a, b = pair(1)
    pace = Pace(gamma=1.0, rho=0.7, eta=0.0, beta=1.0, tau=0.3)
    _, kept = isogclr(a, b, NEVER, ROWS, pace=pace)
    for side, h in enumerate(gaps(a.detach().numpy(), b.detach().numpy())):
        for i in range(5):
            x = others(h, i) / 0.3
            p = np.exp(x) / np.exp(x).sum()
            kl = float((p * np.log(p * 4)).sum())
            assert kept[i, 3 * side + 2].item() == pytest.approx(0.7 - kl)
    # And it is the gradient of F in tau.

    def objective(tau: np.ndarray) -> float:
        x = others(gaps(a.detach().numpy(), b.detach().numpy())[0], 0) / tau
        return float(tau * np.log(np.mean(np.exp(x))) + 0.7 * tau)

    (slope,) = by_differences(objective, [np.array(0.3)])
    assert kept[0, 2].item() == pytest.approx(float(slope), rel=1e-6)


class Diary:
    """What is kept of each sample and side, in plain numbers: [g, tau, m], g not its logarithm."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.of = pace, dict[tuple[int, int], list[float]]()

    def visit(self, h: tuple[np.ndarray, np.ndarray], rows: list[int]) -> list[np.ndarray]:
        """Weights of the surrogate, sg(exp(h / tau) / g) / n, (n, n) a side."""
        pace, found = self.pace, []
        for side, gap in enumerate(h):
            weights = np.zeros_like(gap)
            for i, row in enumerate(rows):
                known = self.of.get((side, row))
                g, tau, m = known or (None, pace.tau, 0.0)
                js = [j for j in range(len(rows)) if rows[j] != row]
                e = np.array([math.exp(gap[i, j] / tau) for j in js])
                g = e.mean() if g is None else (1 - pace.gamma) * g + pace.gamma * e.mean()
                weights[i, js] = e / g / len(js)
                slope = math.log(g) + pace.rho - sum(weights[i, j] * gap[i, j] / tau for j in js)
                m = (1 - pace.beta) * m + pace.beta * min(max(slope, -5), 5)
                tau = min(max(tau - pace.eta * m, pace.tau_min), pace.tau_max)
                self.of[side, row] = [float(g), tau, m]
            found.append(weights)
        return found


@pytest.mark.parametrize("tile", [None, 2])
def test_visits_are_those_of_the_diary(tile) -> None:
    pace = Pace(gamma=0.6, rho=0.4, eta=0.1, beta=0.7, tau=0.2, tau_min=0.1, tau_max=0.5)
    diary, tables = Diary(pace), SampleTables(6)
    config: Any = OBJECTIVES.parse({"name": "isogclr", "tile": tile, **pace._asdict()})
    for visit, rows in enumerate([[4, 0, 2, 7], [0, 1, 2, 3, 4], [7, 4, 0], [2, 0, 7, 4]]):
        a, b = pair(visit + 10, len(rows))
        raw = [x.detach().numpy() for x in (a, b)]
        weights = diary.visit(gaps(*raw), rows)

        def surrogate(x: np.ndarray, y: np.ndarray, weights: Any = weights) -> float:
            sides = zip(weights, gaps(x, y), strict=True)
            return float(np.mean([(w * h).sum(1).mean() for w, h in sides]))

        numbers = torch.tensor(rows)
        pairs = Pairs(a, b, b, numbers, torch.tensor(1.0), torch.tensor(0.0))
        loss = config.loss(pairs._replace(name="x", numbers=numbers, tables=tables), gather=False)
        grads = torch.autograd.grad(loss.value, [a, b])
        for ours, expected in zip(grads, by_differences(surrogate, raw), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=1e-6)
        for (side, row), (g, tau, m) in diary.of.items():
            kept = tables.read("x", torch.tensor([row]))[0, 3 * side : 3 * side + 3]
            np.testing.assert_allclose(kept, [math.log(g), tau, m], rtol=2e-4, atol=1e-5)
        mean = np.mean([diary.of[0, row][1] for row in rows])
        assert loss.terms["tau_a"].item() == pytest.approx(mean, rel=1e-4)


def test_frequent_meanings_end_with_larger_temperatures_than_rare_ones() -> None:
    """Twelve pairs of one meaning, 48 that are each alone: where a few negatives stand out, a cold
    temperature looks at nothing else.
    """
    random = np.random.default_rng(2)
    centre = random.normal(size=64)
    frequent = centre + 0.4 * random.normal(size=(12, 64))
    x = np.concatenate([frequent, random.normal(size=(48, 64))])
    a, b = leaf(x), leaf(x + 0.1 * random.normal(size=x.shape))
    kept, numbers = torch.full((60, 6), torch.nan, dtype=torch.float64), torch.arange(60)
    for _ in range(300):
        _, kept = isogclr(a, b, kept, numbers, pace=Pace(rho=0.3, gamma=1.0))
    assert kept[:12, 1].mean() > 1.3 * kept[12:, 1].mean()


# ---- who is no negative, who takes no part --------------------------------------------------


def test_rows_of_the_same_sample_or_text_are_no_negatives() -> None:
    a, b = pair(3)
    rows = torch.tensor([0, 1, 1, 2, 3])
    one, kept = isogclr(a, b, NEVER, rows, pace=FIXED)
    ids = torch.tensor([0, 1, 1, 2, 3])
    other, _ = isogclr(a, b, NEVER, ROWS, ids=ids, pace=FIXED)
    torch.testing.assert_close(one.value, other.value)
    h = gaps(a.detach().numpy(), b.detach().numpy())[0]
    mean = np.mean([np.exp(h[1, j] / 0.3) for j in (0, 3, 4)])
    assert kept[1, 0].item() == pytest.approx(math.log(mean))


def test_rows_that_take_no_part_keep_what_they_had() -> None:
    a, b = pair(4)
    there = torch.tensor([True, True, False, True, True])
    bad = a.detach().clone()
    bad[2] = torch.nan
    start = NEVER.clone()
    start[2] = 7.0
    loss, kept = isogclr(bad, b, start, ROWS, present=there, pace=FIXED)
    few, of_few = isogclr(a[there], b[there], NEVER[there], ROWS[there], pace=FIXED)
    torch.testing.assert_close(loss.value, few.value)
    torch.testing.assert_close(kept[there], of_few)
    assert (kept[2] == 7).all()


def test_without_negatives_nothing_is_lost_or_learned() -> None:
    a, b = pair(5)
    for rows in (ROWS[:1], torch.zeros(5, dtype=torch.int64)):
        n = len(rows)
        loss, kept = isogclr(a[:n], b[:n], NEVER[:n], rows)
        assert loss.value == 0
        assert not torch.autograd.grad(loss.value, a)[0].any()
        assert kept.isnan().all()


def test_cold_temperatures_stay_finite_in_half_precision() -> None:
    """The largest h / tau is 400, of which no float32 holds the exponential."""
    x = torch.eye(6, 8).bfloat16().requires_grad_()
    y = (-torch.eye(6, 8) + torch.eye(6).roll(1, 0) @ torch.eye(6, 8)).bfloat16()
    pace = Pace(tau=0.005)
    kept = torch.full((6, 6), torch.nan)
    for _ in range(3):
        loss, kept = isogclr(x, y, kept, torch.arange(6), pace=pace)
        assert loss.value.isfinite()
        assert loss.value.dtype == torch.float32
        assert kept.isfinite().all()
        assert torch.autograd.grad(loss.value, x)[0].isfinite().all()


def test_a_rho_that_no_batch_reaches_is_told() -> None:
    a, b = pair(6)
    with pytest.warns(UserWarning, match=r"rho=2 is above log\(4\) = 1.39"):
        isogclr(a, b, NEVER, ROWS, pace=Pace(rho=2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        isogclr(a, b, NEVER, ROWS, pace=Pace(rho=1.0))
        isogclr(a, b, NEVER, ROWS, pace=Pace(rho=2.0, eta=0.0))


# ---- tables and settings --------------------------------------------------------------------


def test_tables_grow_average_repeats_and_come_back() -> None:
    tables = SampleTables(2)
    assert tables.read("x", torch.tensor([3])).isnan().all()
    tables.write("x", torch.tensor([3, 1, 3]), torch.tensor([[1.0, 2], [5, 6], [3, 4]]))
    found = tables.read("x", torch.tensor([1, 3, 0, 9]))
    assert found[:2].tolist() == [[5, 6], [2, 3]]
    assert found[2:].isnan().all()
    tables.write("x", torch.tensor([40]), torch.tensor([[8.0, 9]]))
    again = SampleTables(2)
    again.load_state_dict(tables.state_dict())
    tables.write("x", torch.tensor([1]), torch.tensor([[0.0, 0]]))
    assert again.read("x", torch.tensor([1, 40])).tolist() == [[5, 6], [8, 9]]
    with pytest.raises(ValueError, match="keeps 3 numbers"):
        SampleTables(3).load_state_dict(tables.state_dict())


def test_settings_that_do_not_fit_are_refused() -> None:
    def parsed(**fields: Any) -> Any:
        return OBJECTIVES.parse({"name": "isogclr", **fields})

    with pytest.raises(ValidationError, match=r"tau=2.0 is not in \[0.005, 1.0\]"):
        parsed(tau=2.0)
    with pytest.raises(ValidationError, match="temperatures are found by themselves"):
        parsed(learn_scale=True)
    assert parsed().row_name == "isogclr"
    assert parsed(rho=0.3, eta=0.0).row_name == "isogclr, rho=0.3, eta=0"
    a, b = pair()
    pairs = Pairs(a, b, b, ROWS, torch.tensor(1.0), torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"give Views.tables \(of its config\)"):
        parsed().loss(pairs, gather=False)
    with pytest.raises(ValueError, match=r"kept: shape \(2, 6\)"):
        isogclr(a, b, NEVER[:2], ROWS)
