"""Does a model tell compositions apart? Text, audio and group score of items of look-alikes.

An item has n recordings, each with its own caption, of the same events composed otherwise. With
the cosine S[k, j] of recording k and caption j of one item,

    text score   1 iff S[k, k] > S[k, j] for all k and all j != k   each recording picks its caption
    audio score  1 iff S[k, k] > S[j, k] for all k and all j != k   each caption picks its recording
    group score  1 iff both are

and scores are means over items (Thrush et al., Winoground, CVPR 2022; Ghosh et al., CompA, ICLR
2024, arXiv:2310.08753, by reconstruction: the paper defines them for pairs, and its released
evaluator scores pairs only). "Audio" is any signal here.

A tie loses, so a model that gives everything one place scores 0. Scorers that take the arg-max
count such a tie as right, since the right answer comes first. Cosines closer than ``TIE`` are
equal: rounding makes no hit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from multimodal.errors import UserError
from multimodal.evaluation.compositional_intervals import differences, score_intervals
from multimodal.evaluation.diagnostics import centroid_angle, effective_rank
from multimodal.evaluation.embeddings import TIE, Embeddings, check_width, unit_rows
from multimodal.evaluation.intervals import REPLICATES, Intervals

Mode = Literal["pairs", "full"]
_NUMBERS_AT_ONCE = 2**22  # 32 MiB of float64 a side


@dataclass(frozen=True, eq=False)
class Compositional:
    """What ``compositional`` found of I items.

    metrics: text_score, audio_score, group_score, and the same with _chance instead of _score: of
    independent scores n^-n, n^-n and (n-1)!/(2n-1)!, meaned over items. text_comparison_accuracy
    and audio_comparison_accuracy: the share of single comparisons that are right, which tells a
    model below chance from a blind one. mean_margin: of the mean of S[k, k] minus the mean of the
    rest, in [-2, 2]; positive_margin_share; tie_share: items with a tie in any comparison;
    num_items. All but margins and num_items in [0, 1].
    intervals: (low, high) of 95 % of the three scores. mode, sizes: as scored, sizes (I,) the n of
    each item. counts: n -> items. left_out: members that the mode did not look at.
    hits: by score, (I,) bool. margins: (I,). ties: (I,) bool.
    """

    metrics: dict[str, float]
    intervals: Intervals
    mode: Mode
    sizes: np.ndarray
    left_out: int
    hits: dict[str, np.ndarray]
    margins: np.ndarray
    ties: np.ndarray

    @property
    def counts(self) -> dict[int, int]:
        numbers, items = np.unique(self.sizes, return_counts=True)
        return dict(zip(numbers.tolist(), items.tolist(), strict=True))


def compositional(
    signals: Embeddings,
    texts: Embeddings,
    items: Sequence[Sequence[int]],
    *,
    mode: Mode = "pairs",
    names: Sequence[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Compositional:
    """signals, texts: (R, D), row r the embeddings of recording r and of its own caption.

    items: the rows of each item, two or more. mode: ``pairs`` scores the first two of every item,
    which is what published figures measure; ``full`` all of them. names: of the items, for the
    errors. replicates, seed: of the bootstrap over items (within each n); 0: no intervals.
    UserError: NaN or infinity in an embedding (the items are named, also for members that the mode
    leaves out), sides that do not fit, items of fewer than two rows, repeated or outside the table.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode={mode!r} is unknown; valid: {', '.join(get_args(Mode))}.")
    table, sizes = _rows_of(items, names, len(signals))
    x = _unit(signals, "recording", table, names)
    y = _unit(texts, "caption", table, names)
    check_width(x, y)
    if len(x) != len(y):
        raise UserError(f"{len(x)} recordings but {len(y)} captions; each has its own.")
    scored = np.minimum(sizes, 2) if mode == "pairs" else sizes
    found = _outcomes(x, y, table, scored)
    metrics = {key: float(hit.mean()) for key, hit in found.hits.items()}
    metrics |= {f"{side}_chance": value for side, value in chance(scored).items()}
    comparisons = (scored * (scored - 1)).sum()
    for side, right in found.right.items():
        metrics[f"{side}_comparison_accuracy"] = float(right.sum() / comparisons)
    metrics["mean_margin"] = float(found.margins.mean())
    metrics["positive_margin_share"] = float((found.margins > TIE).mean())
    metrics["tie_share"] = float(found.ties.mean())
    metrics["num_items"] = float(len(scored))
    return Compositional(
        metrics=metrics,
        intervals=score_intervals(found.hits, scored, replicates=replicates, seed=seed),
        mode=mode,
        sizes=scored,
        left_out=int((sizes - scored).sum()),
        hits=found.hits,
        margins=found.margins,
        ties=found.ties,
    )


def compare(
    one: Compositional, two: Compositional, *, replicates: int = REPLICATES, seed: int = 0
) -> tuple[dict[str, float], Intervals]:
    """The scores of one minus those of two, on the same items in the same order, and their paired
    intervals (see ``differences``). UserError: scored in other modes, or items of other sizes.
    """
    if one.mode != two.mode or one.sizes.tolist() != two.sizes.tolist():
        raise UserError(
            f"one model was scored on {len(one.sizes)} items, mode {one.mode}, the other on "
            f"{len(two.sizes)}, mode {two.mode}; compare models on the same items."
        )
    return differences(one.hits, two.hits, one.sizes, replicates=replicates, seed=seed)


def chance(sizes: Sequence[int] | np.ndarray) -> dict[str, float]:
    """``text``, ``audio`` and ``group``: the scores of items of these n if all S are independent.

    Of the n^2 scores those on the diagonal must beat their n - 1 neighbours in the row, each with
    probability 1/n; in the row and the column, the largest of all must lie on the diagonal, and so
    on without its row and column, which gives (n-1)!/(2n-1)!. 1/4, 1/4, 1/6 for n = 2.
    """
    numbers, items = np.unique(np.asarray(sizes), return_counts=True)
    shares = [(int(n), int(c) / len(sizes)) for n, c in zip(numbers, items, strict=True)]
    one_way = sum(share / n**n for n, share in shares)
    group = sum(s * (math.factorial(n - 1) / math.factorial(2 * n - 1)) for n, s in shares)
    return {"text": one_way, "audio": one_way, "group": group}


def companions(signals: Embeddings, texts: Embeddings) -> dict[str, float]:
    """What goes along with the group score and needs no items: text_rank_me, the effective rank of
    the captions' embeddings (RankMe, uncentred), higher is better; centroid_angle, degrees between
    the mean signal and the mean caption, lower is better. That they do was seen over six models
    only, in one public note.
    """
    return {
        "text_rank_me": effective_rank(texts, centre=False),
        "centroid_angle": centroid_angle(signals, texts),
    }


class _Outcomes(NamedTuple):
    """hits, margins, ties: as ``Compositional`` has them. right: by side, (I,) comparisons."""

    hits: dict[str, np.ndarray]
    right: dict[str, np.ndarray]
    margins: np.ndarray
    ties: np.ndarray


def _outcomes(x: Tensor, y: Tensor, table: np.ndarray, sizes: np.ndarray) -> _Outcomes:
    """Of items with the rows ``table[i, : sizes[i]]``, all of one size at a time."""
    count = len(sizes)
    right = {side: np.zeros(count, dtype=np.int64) for side in ("text", "audio")}
    margins, ties = np.zeros(count), np.zeros(count, dtype=bool)
    for n in np.unique(sizes).tolist():
        others = ~torch.eye(n, dtype=torch.bool)
        same_size = np.flatnonzero(sizes == n)
        at_once = max(1, _NUMBERS_AT_ONCE // (n * x.shape[1]))
        for first in range(0, len(same_size), at_once):
            here = same_size[first : first + at_once]
            rows = torch.from_numpy(table[here, :n])
            scores = x[rows] @ y[rows].transpose(1, 2)
            own = scores.diagonal(dim1=1, dim2=2)
            leads = {"text": own[:, :, None] - scores, "audio": own[:, None, :] - scores}
            for side, lead in leads.items():
                right[side][here] = ((lead > TIE) & others).sum(dim=(1, 2)).numpy()
                ties[here] |= ((lead.abs() <= TIE) & others).any(dim=2).any(dim=1).numpy()
            rest = (scores.sum(dim=(1, 2)) - own.sum(dim=1)) / (n * (n - 1))
            margins[here] = (own.mean(dim=1) - rest).numpy()
    hits = {f"{side}_score": won == sizes * (sizes - 1) for side, won in right.items()}
    hits["group_score"] = hits["text_score"] & hits["audio_score"]
    return _Outcomes(hits, right, margins, ties)


def _rows_of(
    items: Sequence[Sequence[int]], names: Sequence[str] | None, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(I, most) rows, -1 where an item has no more, and (I,) sizes."""
    if not len(items):
        raise UserError("there are no items to score.")
    if names is not None and len(names) != len(items):
        raise UserError(f"{len(items)} items but {len(names)} names.")
    sizes = np.fromiter(map(len, items), dtype=np.int64, count=len(items))
    table = np.full((len(items), max(sizes.max(), 2)), -1, dtype=np.int64)
    there = np.arange(table.shape[1]) < sizes[:, None]
    table[there] = np.fromiter(chain.from_iterable(items), dtype=np.int64, count=sizes.sum())
    outside = there & ((table < 0) | (table >= count))
    ordered = np.sort(table, axis=1)
    faults = {
        "has fewer than two members": sizes < 2,
        f"names a row outside the {count} recordings": outside.any(axis=1),
        "names a row twice": ((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] >= 0)).any(axis=1),
    }
    for fault, where in faults.items():
        if where.any():
            raise UserError(f"{_named(np.flatnonzero(where), names)} {fault}.")
    return table, sizes


def _unit(
    embeddings: Embeddings, of: str, table: np.ndarray, names: Sequence[str] | None
) -> Tensor:
    is_tensor = isinstance(embeddings, Tensor)
    rows = embeddings.detach().cpu().double().numpy() if is_tensor else np.asarray(embeddings)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1)) if rows.ndim == 2 else []
    if len(bad):
        items = np.flatnonzero(np.isin(table, bad).any(axis=1))
        where = _named(items, names) if len(items) else f"row {bad[0]}, of no item,"
        raise UserError(
            f"{where} contains NaN or infinity in the embedding of a {of} ({len(bad)} of "
            f"{len(rows)} rows); look for a training that diverged."
        )
    return unit_rows(embeddings, of=of)


def _named(items: np.ndarray, names: Sequence[str] | None) -> str:
    """The first of them, and how many there are."""
    first = f"item {items[0]}" if names is None else str(names[items[0]])
    return first if len(items) == 1 else f"{first} (and {len(items) - 1} more items)"
