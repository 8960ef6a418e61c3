"""The learning rates of an optimiser, as factors of those that it began with."""

from __future__ import annotations

from statistics import fmean, variance
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

RATE_STEP, PERIOD, KEPT, LEVEL = 0.95, 10, 10, 0.05


class Rates:
    """Made before the first step, of the optimiser as it was built."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._first = [group["lr"] for group in optimizer.param_groups]
        self._factor: float | None = 1.0

    def set(self, factor: float) -> None:
        if factor != self._factor:
            self._factor = factor
            for group, rate in zip(self.optimizer.param_groups, self._first, strict=True):
                group["lr"] = rate * factor

    def resume(self) -> None:
        """The optimiser has been given the state of a checkpoint, rates and all."""
        groups = len(self.optimizer.param_groups)
        if groups != len(self._first):  # divided as an earlier version did
            self._first = self._first[:1] * groups
        self._factor = None


class TwoRates:
    """Factors of the learning rate, of which the better one is looked for (CLIB, Koh et al. 2022).

    The rate is ``high`` for 10 updates, then ``low`` = 0.95 high for 10, and so on. At the end of
    each such period, but the first two, the mean fall of the loss in it is noted for its rate, over
    recordings held all the while (nothing is noted if none was). The last 10 of either rate are
    kept. Whenever there are 10 of both, a one-sided Welch test: if the low rate is the better one
    (p < 0.05), high becomes low and low 0.95 times that; if the high one is (p > 0.95), low becomes
    high and high is divided by 0.95. Then, and only then, both lists begin anew, and the period to
    come has the rate that it would not have had. So the first test is after 220 updates.
    """

    def __init__(self, high: float = 1.0) -> None:
        self.high, self.low, self.is_low, self.updates = high, high * RATE_STEP, False, 0
        self.falls: list[list[float]] = [[], []]  # of the high and of the low rate
        self.rows, self.losses = torch.empty(0, dtype=torch.int64), torch.empty(0)

    @property
    def rate(self) -> float:
        return self.low if self.is_low else self.high

    def update(self, rows: Int[Tensor, " held"], losses: Float[Tensor, " held"]) -> None:
        """After an update: the memory's rows, by slot, and their losses."""
        self.updates += 1
        if self.updates % PERIOD:
            return
        lasting = rows[: len(self.rows)] == self.rows
        if self.updates > 2 * PERIOD and lasting.any():
            falls = self.falls[self.is_low]
            falls.append(float((self.losses - losses[: len(self.losses)])[lasting].mean()))
            del falls[:-KEPT]
        self.rows, self.losses, self.is_low = rows.clone(), losses.clone(), not self.is_low
        if all(len(falls) == KEPT for falls in self.falls):
            self._test()

    def _test(self) -> None:
        p = welch(self.falls[1], self.falls[0])
        if p < LEVEL:
            self.high, self.low = self.low, self.low * RATE_STEP
        elif p > 1 - LEVEL:
            self.low, self.high = self.high, self.high / RATE_STEP
        else:
            return
        self.falls, self.is_low = [[], []], not self.is_low

    def state_dict(self) -> dict[str, Any]:
        falls = [list(each) for each in self.falls]
        return {**vars(self), "falls": falls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.falls = [list(each) for each in state["falls"]]


def welch(first: list[float], second: list[float]) -> float:
    """p of the one-sided test that the mean behind ``first`` is greater; 0.5 of equal constants."""
    from scipy.special import stdtr

    a, b = (variance(each) / len(each) for each in (first, second))
    more = fmean(first) - fmean(second)
    if a + b == 0:
        return 0.5 - 0.5 * ((more > 0) - (more < 0))
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return float(stdtr(freedom, -more / (a + b) ** 0.5))
