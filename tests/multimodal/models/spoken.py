"""A small model that speaks, and slow searches to check its decoding against."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from multimodal.batch import Batch, Encoded, Features
from multimodal.encoders.compact import CompactEncoder
from multimodal.models.decoder import Decoder
from multimodal.models.seq2seq import Seq2Seq
from multimodal.models.vocabulary import EOS, SOS

CHANNELS, WIDTH, PROJECTION = 5, 24, 7
Next = Callable[[tuple[int, ...]], list[float]]


class Plain(nn.Module):
    """(N, C, T) signals are features."""

    def forward(self, batch: Batch) -> Features:
        return Features(batch.inputs, batch.lengths)


def model(vocabulary: int = 11, *, dropout: float = 0.0, seed: int = 0) -> Seq2Seq:
    torch.manual_seed(seed)
    encoder = CompactEncoder(CHANNELS, width=16, depth=1, heads=2, patch=2, dropout=dropout)
    decoder = Decoder(vocabulary, layers=2, heads=2, width=WIDTH, feed_forward=40, dropout=dropout)
    made = Seq2Seq(Plain(), encoder, decoder, projection=PROJECTION)
    with torch.no_grad():  # further from even than a new model is
        made.decoder.out.weight.mul_(3)
        made.decoder.out.bias.normal_()
        made.decoder.out.bias[EOS] += 3  # so that texts differ in length
    return made


def batch(lengths: list[int], *, seed: int = 1, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(lengths), CHANNELS, max(lengths), generator=generator, dtype=dtype)
    sizes = torch.tensor(lengths)
    inputs = inputs * (torch.arange(max(lengths)) < sizes[:, None])[:, None]
    return Batch(inputs, sizes, torch.zeros_like(sizes), torch.arange(len(lengths)))


def alone(whole: Batch, row: int) -> Batch:
    """One recording without its padding."""
    part = whole.rows(row, row + 1)
    return Batch(part.inputs[..., : int(part.lengths[0])], part.lengths, part.labels, part.indices)


def without_cache(made: Seq2Seq, encoded: Encoded) -> Next:
    """Log-probabilities of what follows a hypothesis of the one recording, by teacher forcing."""
    known: dict[tuple[int, ...], list[float]] = {}

    def following(ids: tuple[int, ...]) -> list[float]:
        if ids not in known:
            with torch.no_grad():
                logits = made.teacher_forced(encoded, torch.tensor([[SOS, *ids]]))
            known[ids] = logits[0, -1].double().log_softmax(-1).tolist()
        return known[ids]

    return following


def total(following: Next, ids: tuple[int, ...], alpha: float) -> float:
    """Penalised log-probability of a text and its [EOS]."""
    logs = [following(ids[:i])[token] for i, token in enumerate([*ids, EOS])]
    return sum(logs) / ((5 + len(logs)) / 6) ** alpha


def exhaustive(
    following: Next, vocabulary: int, longest: int, alpha: float
) -> tuple[tuple[int, ...], float]:
    """The best of all texts."""
    tokens = range(EOS + 1, vocabulary)
    texts = [ids for n in range(longest + 1) for ids in product(tokens, repeat=n)]
    scores = {ids: total(following, ids, alpha) for ids in texts}
    best = max(scores, key=lambda ids: scores[ids])
    return best, scores[best]


def slow_beam(
    following: Next, vocabulary: int, *, width: int, longest: int, alpha: float
) -> tuple[tuple[int, ...], float]:
    """The definition of ``decoding``, without stopping early."""
    open_hypotheses: dict[tuple[int, ...], float] = {(): 0.0}
    finished: dict[tuple[int, ...], float] = {}
    for length in range(longest + 1):
        scored: dict[tuple[int, ...], float] = {
            (*ids, token): score + following(ids)[token]
            for ids, score in open_hypotheses.items()
            for token in ([EOS] if length == longest else range(EOS, vocabulary))
        }
        kept = sorted(scored, key=lambda ids: -scored[ids])[:width]
        for ids in kept:
            if ids[-1] == EOS:
                finished[ids[:-1]] = scored[ids] / ((5 + len(ids)) / 6) ** alpha
        open_hypotheses = {ids: scored[ids] for ids in kept if ids[-1] != EOS}
    best = max(finished, key=lambda ids: finished[ids])
    return best, finished[best]


class Table(nn.Module):
    """For ``decoding``: logits (V,) are a function of the recording and its text so far. Counts its
    steps and the hypotheses in them.
    """

    def __init__(self, logits: Callable[[int, tuple[int, ...]], list[float]]) -> None:
        super().__init__()
        self.logits, self.steps, self.read = logits, 0, 0

    def start(self, tokens: Tensor, mask: Tensor) -> TableState:
        return TableState([(n, ()) for n in range(len(mask))], None)

    def step(self, ids: Tensor, written: TableState) -> Tensor:
        self.steps, self.read = self.steps + 1, self.read + ids.numel()
        if written.rows is None:
            written.rows = [(n, ()) for n, _ in written.start for _ in ids[0]]
        else:
            written.rows = [
                (n, (*text, int(token)))
                for (n, text), token in zip(written.rows, ids.flatten(), strict=True)
            ]
        logits = [self.logits(n, text) for n, text in written.rows]
        return torch.tensor(logits, dtype=torch.float64).view(*ids.shape, -1)


class TableState:
    def __init__(self, start: list, rows: list | None) -> None:
        self.start, self.rows = start, rows

    def keep(self, recordings: Tensor | None, parents: Tensor) -> None:
        assert self.rows is not None
        width = parents.shape[1]
        kept = range(len(parents)) if recordings is None else recordings.tolist()
        rows = zip(kept, parents.tolist(), strict=True)
        self.rows = [self.rows[n * width + w] for n, own in rows for w in own]


def nothing(count: int) -> Encoded:
    """What ``Table`` reads."""
    tokens = torch.zeros(count, 1, 1, dtype=torch.float64)
    return Encoded(tokens, torch.ones(count, 1, dtype=torch.bool), tokens[:, 0])
