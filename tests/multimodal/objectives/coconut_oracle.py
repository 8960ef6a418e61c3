"""COCONUT's losses one sample at a time, in plain Python, from the definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

VARIANTS = ("literal", "ntpt", "exclude_self", "bounded", "new_only")
NSPT: list[dict[str, Any]] = [
    {"variant": v, "anchors": a, "overlap": o}
    for v, a, o in itertools.product(VARIANTS, ("rehearsal", "all"), ("any", "jaccard"))
]
MM: list[dict[str, Any]] = [
    {"scope": s, "positives": p, "one_text_a_class": c, "overlap": o}
    for s, p, c, o in itertools.product(
        ("new", "all"), ("same_class", "paired"), (False, True), ("any", "jaccard")
    )
    if not (p == "paired" and c)
]


def name_of(options: dict[str, Any]) -> str:
    return "-".join(str(v) for v in options.values())


def label_sets(labels: Tensor) -> list[frozenset[int]]:
    if labels.dim() == 1:
        return [frozenset([label]) for label in labels.tolist()]
    return [frozenset(c for c, x in enumerate(row) if x == 1) for row in labels.tolist()]


def rows(x: Tensor) -> list[list[float]]:
    return [[v / math.hypot(*row) for v in row] for row in x.tolist()]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))


def weight(a: frozenset[int], b: frozenset[int], overlap: str) -> float:
    if not a & b:
        return 0.0
    return len(a & b) / len(a | b) if overlap == "jaccard" else 1.0


def term(denominator: list[float], positives: list[tuple[float, float]]) -> float:
    """Logits of the denominator; (weight, logit) of the positives."""
    top = max(denominator)
    whole = top + math.log(math.fsum(math.exp(z - top) for z in denominator))
    mass = math.fsum(w for w, _ in positives)
    return math.fsum(w * (whole - z) for w, z in positives) / mass


def nspt_oracle(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    rehearsal: Tensor,
    *,
    temperature: float,
    variant: str,
    anchors: str,
    overlap: str,
) -> dict[int, float]:
    """Anchor -> its term."""
    s, t, of, old = rows(student), rows(teacher), label_sets(labels), rehearsal.tolist()
    batch = range(len(s))
    scope = [k for k in batch if old[k] or anchors == "all"]
    found = {}
    for k in scope:
        near = [p for p in scope if of[p] & of[k]]
        with_students = [dot(s[k], s[i]) / temperature for i in batch]
        with_teachers = [dot(s[k], t[i]) / temperature for i in batch]
        denominator = {
            "ntpt": lambda z=with_teachers: z,
            "literal": lambda z=with_students: z,
            "exclude_self": lambda z=with_students, k=k: z[:k] + z[k + 1 :],
            "bounded": lambda z=with_students, y=with_teachers, k=k, near=near: (
                [y[p] for p in near] + [z[i] for i in batch if not of[i] & of[k]]
            ),
            "new_only": lambda z=with_students: [z[i] for i in batch if not old[i]],
        }[variant]()
        if near and denominator:
            positives = [(weight(of[k], of[p], overlap), with_teachers[p]) for p in near]
            found[k] = term(denominator, positives)
    return found


def multimodal_oracle(
    signal: Tensor,
    text: Tensor,
    labels: Tensor,
    rehearsal: Tensor,
    *,
    temperature: float,
    scope: str,
    positives: str,
    one_text_a_class: bool,
    overlap: str,
) -> tuple[float, float, int]:
    """Mean of signal to text, of text to signal, number of classes."""
    a, x, of = rows(signal), rows(text), label_sets(labels)
    signals = [k for k, old in enumerate(rehearsal.tolist()) if not old or scope == "all"]
    texts = list(signals)
    if one_text_a_class:
        by_labels: dict[frozenset[int], int] = {}
        for k in signals:
            by_labels.setdefault(of[k], k)
        texts = sorted(by_labels.values())
    means = []
    for one, other, anchors, choices in ((a, x, signals, texts), (x, a, texts, signals)):
        found = []
        for k in anchors:
            z = {i: dot(one[k], other[i]) / temperature for i in choices}
            near = [p for p in choices if (p == k if positives == "paired" else of[p] & of[k])]
            if not of[k] or not near or (one_text_a_class and len(texts) < 2):
                continue
            weights = [1.0 if p == k else weight(of[k], of[p], overlap) for p in near]
            pairs = [(w, z[p]) for w, p in zip(weights, near, strict=True)]
            found.append(term(list(z.values()), pairs))
        means.append(math.fsum(found) / len(found) if found else 0.0)
    classes = len({c for k in signals for c in of[k]})
    return means[0], means[1], classes


def draw(seed: int, *, several: bool, count: int = 7) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two sets of embeddings (float64), labels or targets with unknown cells, rehearsal."""
    random = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, count, 4, generator=random, dtype=torch.float64)
    rehearsal = torch.rand(count, generator=random) < 0.5
    labels = torch.randint(0, 3, (count,), generator=random)
    if several:
        chance = torch.rand(count, 3, generator=random)
        labels = (chance < 0.4).float().masked_fill(chance > 0.85, math.nan)
    return one, other, labels, rehearsal
