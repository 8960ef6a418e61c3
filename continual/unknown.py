"""Is a recording of a class that the stream has not shown? Asked after every experience (ours).

Test recordings of the classes met so far are the known ones, those of all others the unknown ones.
What a learner's head reads of them is scored by its Mahalanobis distance from training features, as
in PALM (``multimodal/evaluation/out_of_distribution.py``). Nothing is trained and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from continual.evaluation import evaluating
from continual.learner import FrozenTower, Learner
from continual.scenarios import Stream
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.evaluation.out_of_distribution import Mahalanobis, out_of_distribution_metrics

Reference = Literal["kept", "met"]


def unknown_metrics(
    learner: Learner,
    stream: Stream,
    batches: Callable[[np.ndarray], Iterator[Batch]],
    trained: Sequence[np.ndarray],
    *,
    reference: Reference,
) -> dict[str, float] | None:
    """``auroc``: the probability that a known recording lies nearer than an unknown one; ``fpr95``:
    the share of unknown ones within the distance that 95 % of the known ones lie within.

    batches: manifest rows -> their Batches in any order. trained: manifest rows of each training
    experience so far. reference: training recordings that distances are taken from, embedded now:
    those of the last experience and of the memory (kept), or all so far (met).

    None: no class is unknown, or none known; the learner has no embedding that its scores are made
    of; training features that have no distances (all of them one point, or no numbers).
    """
    tower, met = learner.tower(), np.unique(np.concatenate(list(trained)))
    exposed = stream.classes_of(met)
    test = np.unique(np.concatenate([e.test for e in stream.experiences]))
    known = np.isin(stream.manifest.labels[test], exposed)
    if tower is None or known.all() or not known.any():
        return None
    rows = met if reference == "met" else kept(learner, trained[-1])
    trained_on, _ = embed_rows(learner, tower, batches, rows)
    features, order = embed_rows(learner, tower, batches, test)
    try:
        distances = Mahalanobis(trained_on)
        scores = distances.scores(features)
    except UserError:
        return None
    told = known[np.searchsorted(test, order.numpy())]
    found = out_of_distribution_metrics(scores[told], scores[~told])
    return {name.removeprefix("ood_"): value for name, value in found.items()}


def refuse_no_unknown(stream: Stream, setting: str) -> None:
    """UserError where no recording can be of an unknown class. setting: that asks for them."""
    manifest = stream.manifest
    if manifest.multi_label:
        raise UserError(
            f"{setting}: recordings of dataset {manifest.name!r} have several labels or none, so "
            "none is of one class, known or unknown; leave it out."
        )
    test = np.concatenate([e.test for e in stream.experiences])
    first = stream.classes_of(stream.experiences[0].train)
    # What an online stream shows first is drawn: another seed's may leave classes out.
    if stream.online is None and np.isin(manifest.labels[test], first).all():
        raise UserError(
            f"{setting}: the first experience shows every class, so none is ever unknown; leave it "
            "out, or use a scenario that brings classes, such as class_incremental."
        )


def kept(learner: Learner, rows: np.ndarray) -> Int64[np.ndarray, " rows"]:
    """Ascending rows of an experience and of the memory: what a learner can still read."""
    memory = learner.memory
    return np.unique(rows if memory is None else np.concatenate([rows, memory.indices.numpy()]))


def embed_rows(
    learner: Learner,
    tower: FrozenTower,
    batches: Callable[[np.ndarray], Iterator[Batch]],
    rows: np.ndarray,
) -> tuple[Float[Tensor, "rows dim"], Int64[Tensor, " rows"]]:
    """Embeddings on the CPU, and the rows that they are of, in the order of ``batches``."""
    parts, seen = [], []
    with evaluating(learner):
        for batch in batches(rows):
            found = batch.embeddings
            if found is None:
                features = tower.front_end(batch)
                found = tower.encoder(features.values, features.lengths).pooled
            parts.append(found.cpu())
            seen.append(batch.indices.cpu())
    return torch.cat(parts), torch.cat(seen)
