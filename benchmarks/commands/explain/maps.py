"""Attention maps of recordings, for a class or a text, by any model that can be opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.commands.predict.inputs import Part
from benchmarks.commands.predict.model import manifest_of, refuse_others, too_long
from benchmarks.commands.predict.opened import Opened
from multimodal.batch import Batch
from multimodal.errors import UserError, did_you_mean
from multimodal.evaluation.attention_maps import attention_maps
from multimodal.evaluation.attention_pictures import picture
from multimodal.signals import SignalCache

ONLY = "signal"


@dataclass(frozen=True)
class Map:
    """Of one recording. target: the class or text. score: of it, as the model gives it.

    features: (channels, *axes) what the encoder saw, of real steps only. relevance: (*axes) or
    (first axis of time,), >= 0, raw; see ``multimodal.evaluation.attention_pictures``. signal: the
    recording in its canonical form.
    """

    part: Part
    target: str
    score: float
    signal: np.ndarray
    features: np.ndarray
    relevance: np.ndarray


@dataclass(frozen=True)
class Query:
    """Of which score the map is: of a class, of a text (aligned models), or, of neither, of the
    class that each recording is given.
    """

    label: str | None = None
    text: str | None = None


def explain(opened: Opened, parts: Sequence[Part], query: Query) -> Iterator[Map]:
    """One map a part, in order, one recording at a time.

    UserError: a recording that cannot be read, of another modality, or far longer than those of the
    training (a map needs memory by the square of its length), a class that the model has not, a
    text for a model that reads none, an encoder or a learner that has no maps.
    """
    target = _target(opened, query)
    if opened.tower is None:
        raise UserError(
            "this learner has no attention maps: its prompts enter the encoder, a decoder reads "
            "every token, or it reads no signal."
        )
    refuse_others(parts, opened.modality.registered_name)
    signals = SignalCache(manifest_of(opened, parts), opened.adapter)
    signals.ensure(np.arange(len(parts)))
    for part, steps in zip(parts, signals.lengths(np.arange(len(parts))), strict=True):
        if problem := too_long(opened, part, steps, windows=False):
            raise UserError(problem)
    device = next(opened.module.parameters()).device
    for row, part in enumerate(parts):
        yield _one(opened, part, signals.gather([row]).to(device), query, target)


def _target(opened: Opened, query: Query) -> int | Tensor | None:
    """The class id, the text's vector (D,), or None for each recording's own class."""
    if query.text is not None:
        if opened.texts is None:
            raise UserError(
                "--text is for models of `medley align`, which read texts; use --label."
            )
        return opened.texts([query.text])[0]
    if query.label is None:
        return None
    if query.label not in opened.class_names:
        raise UserError(
            f"--label {query.label}: the model has no such class"
            f"{did_you_mean(query.label, list(opened.class_names))}"
        )
    return opened.class_names.index(query.label)


def _one(
    opened: Opened, part: Part, batch: Batch, query: Query, target: int | Tensor | None
) -> Map:
    assert opened.tower is not None
    front_end, encoder = opened.tower
    with torch.no_grad():
        features = front_end(batch)
        if target is None:
            shares = opened.answer(batch).probabilities
            target = int(shares.argmax(1)[0])

    def score(pooled: dict[str, Tensor]) -> Tensor:
        embeddings = pooled[ONLY]
        if isinstance(target, Tensor):
            assert opened.projected is not None
            found = opened.projected(batch, embeddings) @ target
        else:
            found = opened.score(batch, embeddings)[:, target]
        if not found.requires_grad:
            raise UserError("this learner's scores have no gradient, so there is no map of them.")
        return found

    maps = attention_maps({ONLY: (encoder, features)}, score)  # pyright: ignore[reportArgumentType]
    seen = picture(encoder, features, maps.tokens[ONLY])[0]
    values, length = features.values[0], int(features.lengths[0])
    if seen.shape[-1] == values.shape[-1] and values.dim() == 2:
        values, seen = values[..., :length], seen[..., :length]
    words = query.text if isinstance(target, Tensor) else opened.class_names[target]
    steps = int(batch.lengths[0])
    signal = batch.inputs[0][..., :steps] if opened.adapter.length_axis == -1 else batch.inputs[0]
    return Map(
        part,
        str(words),
        float(maps.scores[0]),
        signal.cpu().numpy(),
        values.detach().cpu().numpy(),
        seen.cpu().numpy(),
    )


def name_of(number: int, part: Part) -> str:
    """A file name for the picture of a part."""
    start = f"_{part.start:g}s" if part.start else ""
    return f"{number:03d}_{Path(part.name).stem}{start}.png"
