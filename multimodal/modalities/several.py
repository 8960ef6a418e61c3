"""Several modalities in one table: signals of any shape, laid out in rows of numbers.

A signal is held as one row (4 + its numbers,): the number of its part, the sizes of a step of its
canonical form, and the steps, time first. So caches, loaders and memories, which know one kind of
signal, hold all; encoder ``several`` takes rows apart again (``unpacked``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from multimodal.batch import Batch, Features
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES, SEVERAL, Adapter, modality_of
from multimodal.recordings import Recording
from multimodal.registry import Config

HEADER = 4  # the part's number, and three sizes of a step, 0 where there are fewer


@MODALITIES.register(SEVERAL)
class SeveralConfig(Config):
    """parts: the modalities, each a name or its settings. Not with augmentation."""

    parts: tuple[Annotated[Config, MODALITIES.choice], ...] = Field(min_length=2)

    @field_validator("parts")
    @classmethod
    def _each_once(cls, parts: tuple[Config, ...]) -> tuple[Config, ...]:
        names = [part.registered_name for part in parts]
        for part, name in zip(parts, names, strict=True):
            if name in (SEVERAL, "text"):
                raise ValueError(f"{name} is no modality of recordings")
            if names.count(name) > 1:
                raise ValueError(f"{name} is listed twice")
            if getattr(part, "augment", None) is not None:
                raise ValueError(f"{name}: signals of several modalities are not augmented")
        return parts

    def build(self) -> SeveralAdapter:
        parts: dict[str, Any] = {part.registered_name: part for part in self.parts}
        return SeveralAdapter(self, {name: part.build() for name, part in parts.items()})

    def rate_of(self, modality: str) -> int | None:
        """Hz of the signals of a part; None if it is not listed, or has no rate."""
        found = [part for part in self.parts if part.registered_name == modality]
        return getattr(found[0], "sample_rate", None) if found else None


@dataclass(frozen=True)
class SeveralAdapter:
    """Adapter of several: canonical signal (4 + numbers,) float32. parts: by modality."""

    config: SeveralConfig
    parts: dict[str, Adapter]
    length_axis = 0
    dtype = torch.float32
    channels = axes = 1

    @property
    def fingerprint(self) -> str:
        return "several/1 " + " | ".join(f"{n}: {p.fingerprint}" for n, p in self.parts.items())

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.parts)}

    def load(self, recording: Recording) -> Tensor:
        """UserError: a modality that is not among the parts; as the part's own."""
        name, _ = modality_of(recording.uid)
        if name not in self.parts:
            raise UserError(
                f"{recording.where}: modality {name!r} is none of {', '.join(self.parts)}; list it "
                "in modality.parts."
            )
        part = self.parts[name]
        signal, axis = part.load(recording), part.length_axis
        return packed(
            self._numbers[name], signal[None] if axis is None else signal.movedim(axis, 0)
        )

    def with_features(self) -> SeveralAdapter:
        """The same, whose rows hold features where a part's front end prepares them."""
        made = {
            name: part if (make := getattr(part, "with_features", None)) is None else make()
            for name, part in self.parts.items()
        }
        return SeveralFeatureAdapter(self.config, made)

    def front_end(self) -> nn.Module:
        return Rows()

    def augment(self) -> nn.Module | None:
        return None

    def describe(self, class_name: str) -> list[str]:
        name, own = modality_of(class_name)
        return self.parts[name].describe(own)


class SeveralFeatureAdapter(SeveralAdapter):
    """A ``SeveralAdapter`` some of whose parts are ``FeatureAdapter``s."""

    def prepare(self, signal: Tensor) -> Tensor:
        """Row of a signal -> row of what is held of it."""
        number, steps = int(signal[0]), _steps(signal[None])[0]
        part = list(self.parts.values())[number]
        prepare = getattr(part, "prepare", None)
        return signal if prepare is None else packed(number, prepare(steps))


class Rows(nn.Module):
    """Front end of rows, which stay as they are: values (N, 1, L)."""

    def forward(self, batch: Batch) -> Features:
        return Features(batch.inputs[:, None], batch.lengths)


class Part(NamedTuple):
    """Of one modality of a batch. rows: (n,) int64, where they stand in it."""

    number: int
    rows: Tensor
    batch: Batch


def packed(number: int, steps: Tensor) -> Tensor:
    """Steps (T, ...) of part ``number`` as a row; of at most four axes."""
    sizes = list(steps.shape[1:])
    assert len(sizes) < HEADER
    head = torch.tensor([number, *sizes, *[0] * (HEADER - 1 - len(sizes))], dtype=torch.float32)
    # NumPy, because torch would start a team of threads in each thread that decodes.
    return torch.from_numpy(
        np.concatenate([head.numpy(), steps.numpy().reshape(-1).astype(np.float32)])
    )


def unpacked(rows: Tensor, lengths: Tensor, adapters: list[Adapter]) -> Iterator[Part]:
    """Rows (N, L) with their lengths (N,) as one batch for each part that is among them.

    The batches have signals in the canonical form of their part, and no labels.
    """
    numbers = rows[:, 0].long()
    for number in numbers.unique().tolist():
        at = (numbers == number).nonzero()[:, 0]
        adapter, found = adapters[number], _steps(rows[at], int(lengths[at].max()))
        steps = (lengths[at] - HEADER) // max(1, math.prod(found.shape[2:]))
        axis = adapter.length_axis
        if axis is None:
            inputs = found[:, 0]
        else:
            inputs = found.movedim(1, axis + 1 if axis >= 0 else axis).contiguous()
        yield Part(number, at, Batch(inputs.to(adapter.dtype), steps, at, at))


def _steps(rows: Tensor, longest: int | None = None) -> Tensor:
    """(n, L) rows of one part -> (n, T, ...), without what no row is long enough for."""
    sizes = [int(size) for size in rows[0, 1:HEADER].tolist() if size]
    return rows[:, HEADER:longest].reshape(len(rows), -1, *sizes)
