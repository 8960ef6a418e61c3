"""One set of weights from several that were trained from the same start: delta-guided merging.

Proposed after CoDiEmb, 2025, arXiv:2508.11442, whose abstract says that each checkpoint's weights
follow from how far it moved from the pre-trained start; the formula was not available to us and no
code was published, so this is a reconstruction and no more than a proposal. Of tensor l of
checkpoint k, theta_0 the start::

    delta_k = || theta_k - theta_0 ||,    w_k = delta_k^p / sum_j delta_j^p,
    theta   = sum_k w_k theta_k
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Deviation = Literal["norm", "mean", "element"]


@torch.no_grad()
def delta_guided_merge(
    models: Sequence[Mapping[str, Tensor]],
    start: Mapping[str, Tensor] | None = None,
    *,
    power: float = 1.0,
    by: Deviation = "norm",
) -> dict[str, Tensor]:
    """State dicts of K >= 1 checkpoints and of their start -> one of the same names, new tensors.

    start: None: zeros, as for low-rank updates B A. power: p; 1 favours what moved, -1 what stayed,
    0 is the plain mean. by: a checkpoint's deviation in a tensor is the Euclidean norm (norm), the
    mean absolute value (mean), or each element's own absolute value (element). Where no checkpoint
    moved the mean is uniform; with p < 0 those that did not move at all share everything.

    Every element lies between the checkpoints' own. Integers and booleans (counts of batch
    normalisation) are the last checkpoint's. O(K |theta|), in float64, a tensor at a time.
    ValueError: no checkpoint, an unknown option, names or shapes that differ, NaN.
    """
    if not models:
        raise ValueError("models: none; give the state dicts of at least one checkpoint.")
    if by not in get_args(Deviation):
        raise ValueError(f"by: {by!r}; choose one of {', '.join(get_args(Deviation))}.")
    others = [*models[1:], start] if start is not None else list(models[1:])
    for number, other in enumerate(others):
        _refuse_misfit(models[0], other, f"state dict {number + 2}")
    return {
        name: _merged(
            name,
            [m[name] for m in models],
            None if start is None else start[name],
            power,
            by,
        )
        for name in models[0]
    }


def _merged(
    name: str, tensors: list[Tensor], start: Tensor | None, power: float, by: str
) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[-1].clone()
    stack = torch.stack(tensors).double()
    moved = (stack if start is None else stack - start.double()).abs()
    if not moved.isfinite().all():
        raise ValueError(f"{name}: NaN or infinity in a checkpoint; leave that checkpoint out.")
    if by != "element":
        flat = moved.reshape(len(moved), -1)
        size = torch.linalg.vector_norm(flat, dim=1) if by == "norm" else flat.mean(1)
        moved = size.nan_to_num(0.0).view(-1, *[1] * (stack.dim() - 1))  # of no element
    # From the first one on: what is equal in all stays so to the last bit.
    merged = stack[0] + (_shares(moved, power) * (stack - stack[0])).sum(0)
    return merged.clamp(stack.amin(0), stack.amax(0)).to(tensors[0].dtype)


def _shares(deviation: Tensor, power: float) -> Tensor:
    """(K, ...) weights with a sum of 1 over the K."""
    still = deviation == 0
    if power == 0:
        return torch.full_like(deviation, 1 / len(deviation))
    logs = power * deviation.masked_fill(still, 1.0).log()
    if power > 0:
        shares = logs.masked_fill(still, -torch.inf).softmax(0)
        return torch.where(still.all(0), 1 / len(deviation), shares)
    unmoved = still.double() / still.sum(0).clamp(min=1)
    return torch.where(still.any(0), unmoved, logs.softmax(0))


def _refuse_misfit(first: Mapping[str, Tensor], other: Mapping[str, Tensor], which: str) -> None:
    differ = sorted(first.keys() ^ other.keys())
    if differ:
        listed = ", ".join(differ[:3]) + ", ..." * (len(differ) > 3)
        raise ValueError(f"{which}: names differ from those of the first ({listed}).")
    for name, tensor in first.items():
        if other[name].shape != tensor.shape:
            raise ValueError(
                f"{which}: {name} has shape {tuple(other[name].shape)}, and {tuple(tensor.shape)} "
                "in the first; merge checkpoints of one model."
            )
