"""What holds between events, from their times: before, with, not with, or undecided.

Events are intervals [onset, offset] in seconds, or along any axis. With ov the time that X and Y
share and c = ov / the shorter of both (or ov / their union)::

    BEFORE(X, Y)    off_X <= on_Y + eps
    WITH(X, Y)      c >= theta
    NOT-WITH(X, Y)  c <= theta_lo

and anything between is undecided. A constraint may also be between groups of events; the interval
of a group is its hull. BEFORE is contradicted by WITH and by the reverse BEFORE, WITH by NOT-WITH.
A caption is a set of constraints: true if all hold, false if one is contradicted, else undecided.
Events of less than 2 eps may be before each other and with each other at once; a constraint that
both holds and is contradicted does neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

TRUE, FALSE, UNDECIDED = 1, 0, -1


class Constraint(NamedTuple):
    """first, second: numbers of events; more than one: a group, by its hull."""

    kind: Literal["before", "with"]
    first: tuple[int, ...]
    second: tuple[int, ...]


class Rules(NamedTuple):
    """Tolerance eps in seconds, thresholds of c, and what c is a share of."""

    eps: float = 0.1
    theta: float = 0.5
    theta_lo: float = 0.1
    share_of: Literal["shorter", "union"] = "shorter"


RULES = Rules()


class Judge:
    """Of N scenes of K events each; onsets, offsets: (N, K). Constraints are looked at once."""

    def __init__(self, onsets: np.ndarray, offsets: np.ndarray, rules: Rules = RULES) -> None:
        self.onsets, self.offsets, self.rules = onsets, offsets, rules
        self._known: dict[Constraint, tuple[np.ndarray, np.ndarray]] = {}

    def verdicts(self, constraints: Iterable[Constraint]) -> np.ndarray:
        """(N,) int8: TRUE, FALSE or UNDECIDED in each scene."""
        holds = np.ones(len(self.onsets), dtype=bool)
        contradicted = np.zeros(len(self.onsets), dtype=bool)
        for constraint in constraints:
            if constraint not in self._known:
                self._known[constraint] = self._look(constraint)
            yes, no = self._known[constraint]
            holds &= yes
            contradicted |= no
        return np.where(contradicted, FALSE, np.where(holds, TRUE, UNDECIDED)).astype(np.int8)

    def _look(self, constraint: Constraint) -> tuple[np.ndarray, np.ndarray]:
        """Where it holds, and where it is contradicted."""
        x, y = self._hull(constraint.first), self._hull(constraint.second)
        share, rules = _share(x, y, self.rules), self.rules
        if constraint.kind == "before":
            yes = x[1] <= y[0] + rules.eps
            no = (y[1] <= x[0] + rules.eps) | (share >= rules.theta)
        else:
            yes, no = share >= rules.theta, share <= rules.theta_lo
        return yes & ~no, no & ~yes

    def _hull(self, group: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        members = list(group)
        return self.onsets[:, members].min(axis=1), self.offsets[:, members].max(axis=1)


def verdict(
    constraints: Iterable[Constraint], events: ArrayLike, rules: Rules = RULES
) -> bool | None:
    """True, False or, undecided, None in one scene; events: (K, 2) onset and offset."""
    times = np.asarray(events, dtype=np.float64)
    found = int(Judge(times[None, :, 0], times[None, :, 1], rules).verdicts(constraints)[0])
    return None if found == UNDECIDED else found == TRUE


def _share(
    x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray], rules: Rules
) -> np.ndarray:
    """c of each scene; 0 where an event takes no time."""
    common = np.maximum(np.minimum(x[1], y[1]) - np.maximum(x[0], y[0]), 0.0)
    lengths = x[1] - x[0], y[1] - y[0]
    union = lengths[0] + lengths[1] - common
    whole = union if rules.share_of == "union" else np.minimum(*lengths)
    return np.divide(common, whole, out=np.zeros_like(common, dtype=np.float64), where=whole > 0)
