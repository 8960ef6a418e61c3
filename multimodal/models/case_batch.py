"""Batches of cases, each of which may lack a modality or the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.encoders.cache import EmbeddingCache
from multimodal.loader import Signals
from multimodal.models.captions import NO_TEXT
from multimodal.objectives.views import TEXT

ABSENT = NO_TEXT


@dataclass(frozen=True)
class Source:
    """Where the signals of one modality come from.

    rows: (cases,) row of ``signals`` of each case, ``ABSENT`` where it has none; None: the case's
    own number. augment: as in ``Adapter.augment``.
    """

    signals: Signals | EmbeddingCache
    rows: np.ndarray | None = None
    augment: Callable[[Batch], Batch] | None = None


@dataclass(frozen=True)
class Beside:
    """More of each case than its views: what ``Views.extras`` and ``Views.keys`` are made of.

    texts: name -> (cases, K) int64 numbers of texts, as in ``Captions.of_row``. signals: name ->
    (cases, K) int64 rows of the signals of the only modality. ``ABSENT`` where there is none.
    keys: (cases,) int64.
    """

    texts: Mapping[str, np.ndarray] = field(default_factory=dict)
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    keys: np.ndarray | None = None


@dataclass(frozen=True)
class Part:
    """What some of ``count`` cases have of one modality, or of the texts.

    batch: of those that have it, in their order; None: none has. places: (n,) int64 of them among
    the cases; None: all have it.
    """

    batch: Batch | None
    places: Tensor | None
    count: int

    def spread(self, x: Tensor) -> Tensor:
        """(n, ...) of those that have it -> (count, ...), zeros elsewhere."""
        if self.places is None:
            return x
        return x.new_zeros(self.count, *x.shape[1:]).index_copy(0, self.places, x)

    def _map(self, function: Callable[[Batch], Batch], move: Callable[[Tensor], Tensor]) -> Part:
        batch = None if self.batch is None else function(self.batch)
        return Part(batch, None if self.places is None else move(self.places), self.count)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Part:
        return self._map(
            lambda b: b.to(device, non_blocking=non_blocking),
            lambda x: x.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Part:
        return self._map(lambda b: b.pin_memory(), lambda x: x.pin_memory())


@dataclass(frozen=True)
class CaseBatch:
    """N cases: parts by modality, the texts under ``TEXT``; extras: N K parts of each name."""

    parts: dict[str, Part]
    extras: dict[str, Part] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.parts[TEXT].count

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CaseBatch:
        return self._map(lambda part: part.to(device, non_blocking))

    def pin_memory(self) -> CaseBatch:
        return self._map(Part.pin_memory)

    def _map(self, change: Callable[[Part], Part]) -> CaseBatch:
        every = [{k: change(p) for k, p in of.items()} for of in (self.parts, self.extras)]
        return CaseBatch(*every)


def there(rows: np.ndarray, gather: Callable[[np.ndarray], Batch]) -> Part:
    """Of the cases those that are not ``ABSENT``."""
    places = np.flatnonzero(rows != ABSENT)
    found = gather(rows[places]) if len(places) else None
    return Part(found, torch.from_numpy(places), len(rows))
