"""Decoding of the small spoken-language model, one thread: what batching and the cache save.

Encoder outputs are noise, weights are new, and [EOS] is out of reach, so every text has exactly
``LONGEST`` tokens: what a step costs does not depend on what is said, but texts that end early
would (a search leaves out recordings that are done, in a batch as alone). Without a cache: each
step reads the whole text so far, as in training. Times are those of the processor.

A training step: ``NEW`` recordings and as many of the memory, through front end, encoder and
decoder, backwards and into the optimiser. COCONUT has both contrastive losses, its teacher what
it made of the memory at the experience's end; with all distillation it also reads the memory in
every step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.harness import print_figures, ratio, time_all
from continual.classifier import Classifier
from continual.learner import LEARNERS, ExperienceInfo, LearnerContext
from multimodal.batch import Batch, Encoded
from multimodal.encoders.compact import CompactEncoder
from multimodal.modalities.speech import SpeechConfig
from multimodal.models.seq2seq import DecoderConfig, Seq2Seq
from multimodal.models.vocabulary import EOS, SOS, Vocabulary

RECORDINGS, LONGEST, BEAM = 32, 30, 5
TOKENS = 60  # of the encoder: 2.4 s in steps of 40 ms
INTENTS = 31  # of Fluent Speech Commands
NEW = 32
TERMS: dict[str, dict[str, Any]] = {
    "ER": {"nspt": 0, "mm": 0},
    "COCONUT": {},
    "COCONUT, all distillation": {"audio_kd": 1, "token_kd": 1, "sequence_kd": 1},
}


def endless_model() -> Seq2Seq:
    torch.manual_seed(0)
    config = DecoderConfig()
    vocabulary = Vocabulary([f"intent_{i}" for i in range(INTENTS)], merges=config.merges)
    model = config.build(nn.Identity(), CompactEncoder(40), vocabulary).eval()
    assert model.decoder.out is not None
    with torch.no_grad():
        model.decoder.out.bias[EOS] = -100.0
    return model


def heard(model: Seq2Seq, count: int) -> Encoded:
    tokens = torch.randn(count, TOKENS, model.decoder.width)
    mask = torch.arange(TOKENS) < torch.linspace(TOKENS // 3, TOKENS, count)[:, None]
    return Encoded(tokens, mask, tokens.mean(1))


def singles(encoded: Encoded) -> list[Encoded]:
    """The recordings one by one, without padding."""
    found = []
    for tokens, mask, pooled in zip(*encoded, strict=True):
        found.append(Encoded(tokens[mask][None], mask[mask][None], pooled[None]))
    return found


@torch.no_grad()
def without_cache(model: Seq2Seq, encoded: Encoded) -> Tensor:
    """Greedy, by teacher forcing of all that is written so far."""
    ids = torch.full((len(encoded.mask), 1), SOS)
    for _ in range(LONGEST + 1):
        logits = model.teacher_forced(encoded, ids)[:, -1]
        newest = logits[:, EOS + 1 :].argmax(1) + EOS + 1
        ids = torch.cat([ids, newest[:, None]], dim=1)
    return ids[:, 1 : LONGEST + 1]


def step(terms: dict[str, Any], new: int) -> Callable[[], object]:
    """A training step in the second experience, of noise of 2.4 s and texts of seven words."""
    torch.manual_seed(0)
    rows, names = np.arange(4 * new), tuple(f"intent_{i}" for i in range(INTENTS))
    labels = rows % (INTENTS // 2) + (rows >= 2 * new) * (INTENTS // 2)
    words = ("turn", "lamp", "on", "kitchen", "please", "now", "the")
    texts = tuple(" ".join(words[(i + k) % 7] for k in range(7)) for i in rows)
    front_end, encoder = SpeechConfig(n_mels=40).build().front_end(), CompactEncoder(40)
    context = LearnerContext(
        model=Classifier(front_end, encoder, INTENTS), seed=0, class_names=names, texts=texts
    )
    data = {"name": "coconut", "memory_size": 2 * new, **terms}
    learner: Any = LEARNERS.parse(data).build(context)  # pyright: ignore[reportAttributeAccessIssue]
    signals = torch.randn(len(rows), 1, 38_400)

    def read(some: Tensor) -> Batch:
        lengths = torch.full((len(some),), signals.shape[-1])
        return Batch(signals[some], lengths, torch.as_tensor(labels)[some], some)

    def info(index: int, own: np.ndarray) -> ExperienceInfo:
        met = tuple(sorted({int(c) for c in labels[: own[-1] + 1]}))
        return ExperienceInfo(
            index, 3, met, met, own, labels[own], None, lambda: iter([read(torch.as_tensor(own))])
        )

    learner.read = read
    learner.plan([rows[: 2 * new], rows[2 * new :]])
    learner.begin_experience(info(0, rows[: 2 * new]))
    learner.end_experience(info(0, rows[: 2 * new]))
    learner.begin_experience(info(1, rows[2 * new :]))
    optimizer = torch.optim.AdamW(p for p in learner.model.parameters() if p.requires_grad)
    both = read(torch.cat([torch.as_tensor(rows[2 * new : 3 * new]), learner.memory.sample(new)]))
    batch, memory_batch = both.split(new)

    def once() -> None:
        optimizer.zero_grad()
        learner.loss(batch, memory_batch).value.backward()
        optimizer.step()

    return once


def main() -> None:
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    count, new, repeats = (4, 4, 1) if quick else (RECORDINGS, NEW, 7)
    model = endless_model()
    encoded = heard(model, count)
    parts = singles(encoded)

    def beam(some: list[Encoded]) -> Callable[[], object]:
        return lambda: [model.beam(e, width=BEAM, longest=LONGEST) for e in some]

    work: dict[str, Callable[[], object]] = {
        f"beam {BEAM}, one at a time": beam(parts),
        f"beam {BEAM}, {count} at once": beam([encoded]),
        "greedy, no cache": lambda: without_cache(model, encoded),
        "greedy, cache": lambda: model.greedy(encoded, longest=LONGEST),
        **{f"step of {name}": step(terms, new) for name, terms in TERMS.items()},
    }
    assert model.greedy(encoded, longest=LONGEST).ids == without_cache(model, encoded).tolist()
    seconds = time_all(
        {name: lambda w=w: w for name, w in work.items()}, repeats=repeats, clock=time.process_time
    )
    one, many, slow, fast, er, coconut, _ = seconds
    figures = {
        "coconut_over_er": ratio(seconds, coconut, er),
        "beam_batched_over_single": ratio(seconds, one, many),
        "cached_over_uncached_decode": ratio(seconds, slow, fast),
    }
    title = (
        f"{count} recordings, texts of {LONGEST} tokens, steps of {new} + {new}, one thread (ms)"
    )
    print_figures(title, seconds, figures)


if __name__ == "__main__":
    main()
