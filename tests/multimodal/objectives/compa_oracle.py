"""CompA's objectives in plain Python: every sum over the set that a row may see, written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class Case:
    """One case; true, false, unlike: any number of vectors that only it sees."""

    signal: np.ndarray
    text: np.ndarray
    true: list[np.ndarray]
    false: list[np.ndarray]
    unlike: list[np.ndarray]
    key: int


def cases(
    seed: int, counts: list[tuple[int, int, int]], width: int = 3, keys: int | None = None
) -> list[Case]:
    """counts: of each case, how many true and false texts and unlike signals it has. keys: how
    many there are; None: as many as cases.
    """
    random = np.random.default_rng(seed)

    def some(count: int) -> list[np.ndarray]:
        return list(random.normal(size=(count, width)))

    return [
        Case(
            random.normal(size=width),
            random.normal(size=width),
            *(some(count) for count in of_case),
            key=number if keys is None else int(random.integers(keys)),
        )
        for number, of_case in enumerate(counts)
    ]


def oracle(
    found: list[Case], s: float, denominator: str = "own", weights: list[float] | None = None
) -> tuple[float, float]:
    """Mean losses a->t and t->a."""

    def logit(x: np.ndarray, y: np.ndarray) -> float:
        return s * float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    def lse(logits: list[float]) -> float:
        highest = max(logits)
        return highest + float(np.log(sum(np.exp(x - highest) for x in logits)))

    forth, back = 0.0, 0.0
    for i, case in enumerate(found):
        others = [c for j, c in enumerate(found) if j != i and c.key != case.key]
        false = [logit(case.signal, x) for x in (*(c.text for c in others), *case.false)]
        true = [case.text, *case.true]
        own = [logit(case.signal, x) for x in true]
        shares = np.array(weights or [1.0] * len(true))[: len(true)]
        for k, text in enumerate(true):
            share = float(shares[k] / shares.sum())
            rivals = false + (own if denominator == "all" else [own[k]])
            forth += share * (lse(rivals) - own[k]) / len(found)
            heard = [case.signal, *(c.signal for c in others), *(case.unlike if k == 0 else [])]
            back += share * (lse([logit(text, x) for x in heard]) - own[k]) / len(found)
    return forth, back


def padded(rows: list[list[np.ndarray]], width: int, spare: int = 0) -> tuple[Tensor, Tensor]:
    """(N, K, D) and (N, K) bool of ragged rows; NaN stands where there is nothing."""
    most = max(len(row) for row in rows) + spare
    x = np.full((len(rows), most, width), np.nan)
    for i, row in enumerate(rows):
        for k, vector in enumerate(row):
            x[i, k] = vector
    return torch.tensor(x), torch.tensor(~np.isnan(x).any(2))


def arguments(found: list[Case], *, spare: int = 0, keys: bool = True) -> dict[str, Any]:
    """What ``modular`` takes of these cases. spare: empty places more than any case needs."""
    width = len(found[0].signal)
    given: dict[str, Any] = {
        "signals": torch.tensor(np.stack([c.signal for c in found])),
        "texts": torch.tensor(np.stack([c.text for c in found])),
    }
    for name, allowed, rows in (
        ("positives", "allowed_positives", [c.true for c in found]),
        ("negatives", "allowed_negatives", [c.false for c in found]),
        ("negative_signals", "allowed_signals", [c.unlike for c in found]),
    ):
        given[name], given[allowed] = padded(rows, width, spare)
    if keys:
        given["keys"] = torch.tensor([c.key for c in found])
    return given


def at(*degrees: float) -> Tensor:
    """(N, 2) unit vectors."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)
