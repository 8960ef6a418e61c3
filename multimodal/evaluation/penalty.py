"""How InfoNCE shares out its penalty: on the nearest negatives alone, or on all alike.

Wang and Liu, arXiv:2012.09740, a reconstruction from public notes. Of an anchor i the gradient
pushes its negatives k away in the shares r_ik = softmax_{k != i}(s_ik / tau), the relative
penalties. Their entropy is a readout of hardness: 0, all on one negative; log(N - 1), on all alike.
Uniformity and tolerance, the paper's other two readouts, are in ``diagnostics.py``.
"""

from __future__ import annotations

import math

import torch

from multimodal.errors import UserError
from multimodal.evaluation.embeddings import Embeddings, check_width, unit_rows

BLOCK = 1024  # anchors whose cosines with everything are held


def relative_penalty_entropy(
    x: Embeddings, y: Embeddings, *, temperature: float
) -> tuple[float, float]:
    """Of N pairs, x the anchors: the mean over anchors of the entropy of relative penalties in
    nats, in [0, log(N - 1)]; and the mean share of the negatives that count, exp(entropy) / (N -
    1), in (0, 1], which does not depend on N as much. x, y: (N, D), N >= 2; time O(N^2 D).

    UserError: NaN, sides that do not fit, fewer than 2 pairs, a temperature that is not above 0.
    """
    if not (0 < temperature < math.inf):
        raise UserError(f"temperature is {temperature}; it must be above 0, such as 0.07.")
    anchors, others = unit_rows(x), unit_rows(y, of="text")
    check_width(anchors, others)
    if len(anchors) != len(others) or len(anchors) < 2:
        raise UserError(
            f"{len(anchors)} signals and {len(others)} texts; give 2 or more pairs of them."
        )
    found = []
    for start in range(0, len(anchors), BLOCK):
        logits = anchors[start : start + BLOCK] @ others.T / temperature
        logits.diagonal(start).fill_(-torch.inf)
        found.append(torch.special.entr(logits.softmax(dim=1)).sum(dim=1))
    entropy = torch.cat(found)
    return float(entropy.mean()), float(entropy.exp().mean()) / (len(anchors) - 1)
