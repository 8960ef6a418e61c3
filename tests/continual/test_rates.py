"""The search of CLIB for a learning rate against its rule in plain Python; factors of rates."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

from continual.rates import Rates, TwoRates, welch


class Oracle:
    """The original's rule, slot by slot; it is told which slots were written since the last call.

    It is a count of updates, two rates, which of them is in use, up to ten falls of either, the
    losses at the last switch, and the slots written since.
    """

    def __init__(self) -> None:
        self.high, self.low, self.on_high, self.count = 1.0, 0.95, True, 0
        self.falls: dict[bool, list[float]] = {True: [], False: []}
        self.past: list[float] | None = None
        self.written: set[int] = set()
        self.tests = 0

    def update(self, written: set[int], losses: list[float]) -> float:
        self.count, self.written = self.count + 1, self.written | written
        if self.count % 10 == 0:
            if self.past is not None and self.count > 20:
                slots = [i for i in range(len(self.past)) if i not in self.written]
                falls = [self.past[i] - losses[i] for i in slots]
                kept = self.falls[self.on_high]
                kept.append(sum(falls) / len(falls))
                if len(kept) > 10:
                    kept.pop(0)
            self.past, self.written, self.on_high = list(losses), set(), not self.on_high
            if len(self.falls[True]) == len(self.falls[False]) >= 10:
                self._compare()
        return self.high if self.on_high else self.low

    def _compare(self) -> None:
        self.tests += 1
        low, high = self.falls[False], self.falls[True]
        test: Any = ttest_ind(low, high, equal_var=False, alternative="greater")
        if test.pvalue < 0.05:
            self.high, self.low = self.low, self.low * 0.95
        elif test.pvalue > 0.95:
            self.high, self.low = self.high / 0.95, self.high
        else:
            return
        self.falls, self.on_high = {True: [], False: []}, not self.on_high


@pytest.mark.parametrize("better", [-0.02, 0.0, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_the_rate_is_that_of_the_rule_at_every_update(better, seed) -> None:
    """Losses fall by some noise, and by ``better`` more in a period of the low rate."""
    draws, oracle, search = random.Random(seed), Oracle(), TwoRates()
    rows: list[int] = []
    losses: list[float] = []
    rates = []
    for update in range(1500):
        written = set()
        if len(rows) < 12:
            written.add(len(rows))
            rows.append(update)
            losses.append(draws.gauss(2.0, 1.0))
        elif draws.random() < 0.1:
            slot = draws.randrange(12)
            written.add(slot)
            rows[slot], losses[slot] = update, draws.gauss(2.0, 1.0)
        fall = better * search.is_low / 10
        losses = [loss - fall + draws.gauss(0.0, 0.02) for loss in losses]
        rates.append(oracle.update(written, losses))
        search.update(torch.tensor(rows), torch.tensor(losses, dtype=torch.float64))
        assert search.rate == pytest.approx(rates[-1])
        assert (update + 1 < 220) == (oracle.tests == 0)
    assert rates[:30] == [1.0] * 9 + [0.95] * 10 + [1.0] * 10 + [0.95]
    if better:
        assert (search.high < 1) == (better > 0)
        assert oracle.tests > 3
    else:
        assert oracle.tests > 50  # a test after every period while neither is better


def test_periods_in_which_nothing_lasted_are_not_noted() -> None:
    search = TwoRates()
    for update in range(100):
        search.update(torch.tensor([update]), torch.tensor([1.0]))
    assert search.falls == [[], []]
    assert search.is_low is False


def test_a_search_goes_on_from_its_state() -> None:
    def feed(search: TwoRates, start: int, stop: int) -> list[float]:
        rates = []
        for update in range(start, stop):
            noise = np.random.default_rng(update).normal(size=5)
            search.update(torch.arange(5), torch.from_numpy(noise - search.is_low * update))
            rates.append(search.rate)
        return rates

    whole, first, second = TwoRates(), TwoRates(), TwoRates()
    expected = feed(whole, 0, 600)
    for cut in (7, 45, 233):
        first = TwoRates()
        feed(first, 0, cut)
        second = TwoRates()
        second.load_state_dict(first.state_dict())
        feed(first, cut, cut + 50)  # leaves the other as it is
        assert feed(second, cut, 600) == expected[cut:]


def test_welch_is_that_of_scipy() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        first, second = (
            draws.normal(m, s, 10).tolist() for m, s in zip([0.0, 0.3], [1, 0.4], strict=True)
        )
        known: Any = ttest_ind(first, second, equal_var=False, alternative="greater")
        assert welch(first, second) == pytest.approx(float(known.pvalue), rel=1e-9)
    assert welch([1.0] * 10, [1.0] * 10) == 0.5
    assert welch([2.0] * 10, [1.0] * 10) == 0.0
    assert welch([1.0] * 10, [2.0] * 10) == 1.0


def test_factors_are_of_the_rates_at_the_start() -> None:
    parameters = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.4)]
    rates = Rates(optimizer := torch.optim.SGD(parameters, lr=1.0))

    def now() -> list[float]:
        return [group["lr"] for group in optimizer.param_groups]

    for factor in (1.0, 0.5, 0.5, 2.0, 1.0):
        rates.set(factor)
        assert now() == [0.1 * factor, 0.4 * factor]
    for group in optimizer.param_groups:
        group["lr"] *= 0.95  # as a checkpoint left it
    rates.resume()
    rates.set(1.0)
    assert now() == [0.1, 0.4]
