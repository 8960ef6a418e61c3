"""Large contrastive batches in little memory (GradCache, Gao et al. 2021, arXiv:2101.06983).

The loss couples all pairs of a batch, but an encoder does not. So the batch is embedded part by
part without a graph, the loss is taken on all embeddings, and each part is embedded again, now with
its graph, to receive the gradients of its embeddings. Exact: same random numbers both times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.objectives import Loss

Embed = Callable[[Any], tuple[Tensor, ...]]
Objective = Callable[[tuple[Tensor, ...]], Loss]
Backward = Callable[[Tensor], None]


def backward_in_parts(
    embed: Embed, loss: Objective, parts: Sequence[Any], *, backward: Backward
) -> tuple[Loss, tuple[Tensor, ...]]:
    """Accumulate the gradients of ``loss(embeddings of all parts)``; returns it and them, detached.

    embed: part -> embeddings, (n, D) each; those without a gradient get none. backward: runs a
    scalar's backward pass (``Tensor.backward``, or one that scales it for float16). The last part
    is embedded once, with its graph; so a batch of one part is an ordinary step.
    """
    states, embedded = [], []
    for part in parts[:-1]:
        states.append(_random_state())
        with torch.no_grad():
            embedded.append(embed(part))
    last = embed(parts[-1])
    if len(parts) == 1:
        value = loss(last)
        backward(value.value)
        return _detached(value), tuple(x.detach() for x in last)
    after = _random_state()
    sides = zip(*embedded, tuple(x.detach() for x in last), strict=True)
    leaves = tuple(
        torch.cat(side).requires_grad_(x.requires_grad) for side, x in zip(sides, last, strict=True)
    )
    value = loss(leaves)
    backward(value.value)
    start = 0
    for part, state in zip(parts[:-1], states, strict=True):
        _restore(state)
        again = embed(part)
        _pass_on(again, leaves, start)
        start += len(again[0])
    _restore(after)
    _pass_on(last, leaves, start)
    return _detached(value), tuple(x.detach() for x in leaves)


def _pass_on(embedded: tuple[Tensor, ...], leaves: tuple[Tensor, ...], start: int) -> None:
    """Backward from a part's embeddings with the gradients of their places among all of them."""
    pairs = [
        (x, leaf.grad[start : start + len(x)].to(x.dtype))
        for x, leaf in zip(embedded, leaves, strict=True)
        if leaf.grad is not None
    ]
    torch.autograd.backward([x for x, _ in pairs], [gradient for _, gradient in pairs])


def _detached(loss: Loss) -> Loss:
    return Loss(loss.value.detach(), loss.terms)


def _random_state() -> tuple[Tensor, Tensor | None]:
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), gpu


def _restore(state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
