"""Writing the likeliest text: greedy, and by beam search.

A hypothesis is a row of at most ``longest`` tokens and [EOS], whose probability counts too; one
that has reached ``longest`` tokens has no other way on. [PAD], [UNK] and [SOS] are never written.
The score of beam search is log p / ((5 + n) / 6)^alpha with n the tokens including [EOS] (Wu et al.
2016, arXiv:1609.08144, equation 14), of hypotheses that are finished: the code of COCONUT's authors
divides each step's log-probability by the penalty of that step, which ranks otherwise.

Each step keeps the ``width`` likeliest of all continuations of all open hypotheses; those that end
in [EOS] are finished, the others open. A search ends when none is open, or as soon as none can win
any more: no log-probability is above 0, so an open one of log-probability s comes to at most s over
the penalty of the longest row. Of equal scores the earlier hypothesis, then the lower id is first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multimodal.batch import Encoded
from multimodal.models.decoder import Decoder, Written
from multimodal.models.vocabulary import EOS, SOS

NEVER = float("-inf")


class Decoded(NamedTuple):
    """ids: of each recording, without [SOS] and [EOS]. scores: (N,) float; greedy: log p."""

    ids: list[list[int]]
    scores: Tensor


@torch.no_grad()
def greedy(decoder: Decoder, encoded: Encoded, *, longest: int) -> Decoded:
    """The likeliest token at each step."""
    found = _Found(encoded, longest)
    alive = torch.arange(len(encoded.mask), device=encoded.mask.device)
    scores_N = torch.zeros_like(found.scores)
    ids_NT = torch.zeros(len(alive), 0, dtype=torch.int64, device=alive.device)
    newest_N = torch.full_like(alive, SOS)
    with _evaluating(decoder):
        written = decoder.start(encoded.tokens, encoded.mask)
        for length in range(longest + 1):
            logs_NV = _logs(decoder, newest_N[:, None], written, last=length == longest)[:, 0]
            newest_N = logs_NV.argmax(1)  # the first of equal ones
            scores_N = scores_N + logs_NV.gather(1, newest_N[:, None])[:, 0]
            ended_N = newest_N == EOS
            found.take(alive[ended_N], ids_NT[ended_N], scores_N[ended_N])
            (going,) = (~ended_N).nonzero(as_tuple=True)
            if not len(going):
                break
            if len(going) < len(alive):
                alive, scores_N, ids_NT = alive[going], scores_N[going], ids_NT[going]
                newest_N = newest_N[going]
                written.keep(going, torch.zeros_like(going)[:, None])
            ids_NT = torch.cat([ids_NT, newest_N[:, None]], dim=1)
    return found.decoded()


@torch.no_grad()
def beam_search(
    decoder: Decoder, encoded: Encoded, *, width: int, longest: int, length_penalty: float = 0.6
) -> Decoded:
    """The best finished hypothesis of each recording. width: W. length_penalty: alpha >= 0."""
    found = _Found(encoded, longest)
    count, device = len(encoded.mask), encoded.mask.device
    alive = torch.arange(count, device=device)
    ids_NWT = torch.zeros(count, width, 0, dtype=torch.int64, device=device)
    newest_NW = torch.full((count, width), SOS, device=device)
    open_NW = torch.full((count, width), NEVER, device=device, dtype=found.scores.dtype)
    open_NW[:, 0] = 0  # all hypotheses are still the same one
    most = _penalty(longest + 1, length_penalty)
    with _evaluating(decoder):
        written = decoder.start(encoded.tokens, encoded.mask)
        for length in range(longest + 1):
            logs_NWV = _logs(decoder, newest_NW, written, last=length == longest)
            scores_NW, places_NW = top((open_NW[..., None] + logs_NWV).flatten(1), width)
            parents_NW = places_NW.div(logs_NWV.shape[-1], rounding_mode="floor")
            newest_NW = places_NW % logs_NWV.shape[-1]
            ended_NW = newest_NW == EOS
            finished_NW = scores_NW.masked_fill(~ended_NW, NEVER)
            best_N, which_N = finished_NW.max(1)
            rows = torch.arange(len(alive), device=device)
            ids_NT = ids_NWT[rows, parents_NW[rows, which_N]]
            found.take(alive, ids_NT, best_N / _penalty(length + 1, length_penalty))
            open_NW = scores_NW.masked_fill(ended_NW, NEVER)
            hopes_N = open_NW.amax(1)
            lost_N = (hopes_N == NEVER) | (found.scores[alive] >= hopes_N / most)
            (going,) = (~lost_N).nonzero(as_tuple=True)
            if not len(going):
                break
            parents_NW = parents_NW[going]
            written.keep(going if len(going) < len(alive) else None, parents_NW)
            ids_NWT = ids_NWT[going[:, None], parents_NW]
            alive, open_NW, newest_NW = alive[going], open_NW[going], newest_NW[going]
            ids_NWT = torch.cat([ids_NWT, newest_NW[..., None]], dim=2)
    return found.decoded()


def top(
    scores: Float[Tensor, "batch places"], count: int
) -> tuple[Float[Tensor, "batch count"], Int[Tensor, "batch count"]]:
    """The ``count`` highest of each row and their places; of equal ones the first place is first.

    ``topk`` promises no order of equal ones, nor which of those at its edge it gives.
    """
    places = scores.shape[1]
    values, found = scores.topk(min(count + 1, places), dim=1)
    at_edge = values[:, count - 1] == values[:, -1] if count < places else None
    if at_edge is not None and (at_edge & (values[:, -1] > NEVER)).any():
        found = scores.sort(dim=1, descending=True, stable=True).indices
    found = found[:, :count].sort(dim=1).values
    values, order = scores.gather(1, found).sort(dim=1, descending=True, stable=True)
    return values, found.gather(1, order)


class _Found:
    """The best finished hypothesis of each recording so far."""

    def __init__(self, encoded: Encoded, longest: int) -> None:
        count, device = len(encoded.mask), encoded.mask.device
        dtype = torch.promote_types(encoded.tokens.dtype, torch.float32)
        self.scores = torch.full((count,), NEVER, device=device, dtype=dtype)
        self.ids = torch.zeros(count, longest, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(count, dtype=torch.int64, device=device)

    def take(self, recordings: Tensor, ids_NT: Tensor, scores_N: Tensor) -> None:
        """Those that are better than what was found before; the earlier one of equal ones stays."""
        (better,) = (scores_N > self.scores[recordings]).nonzero(as_tuple=True)
        rows, length = recordings[better], ids_NT.shape[1]
        self.scores[rows] = scores_N[better]
        self.ids[rows, :length] = ids_NT[better]
        self.lengths[rows] = length

    def decoded(self) -> Decoded:
        pairs = zip(self.ids.tolist(), self.lengths.tolist(), strict=True)
        return Decoded([row[:length] for row, length in pairs], self.scores)


def _logs(decoder: Decoder, newest: Tensor, written: Written, *, last: bool) -> Tensor:
    """(N, W, V) log-probabilities of what comes next; last: only [EOS] may."""
    logits = decoder.step(newest, written)
    logs = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    logs[..., :EOS] = NEVER
    if last:
        logs[..., EOS + 1 :] = NEVER
    return logs


def _penalty(tokens: int, alpha: float) -> float:
    return ((5 + tokens) / 6) ** alpha


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout; the mode comes back."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
