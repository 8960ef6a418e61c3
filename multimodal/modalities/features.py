"""Recordings of which caches hold features, where these stay the same from step to step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from multimodal.modalities import Adapter
from multimodal.recordings import Recording


class Prepared(Protocol):
    """A front end without parameters whose work on a recording can be done once.

    What it makes in a batch of signals and what ``finishing`` makes of a batch of ``prepare``d ones
    are the same to the bit (of more than one band).
    """

    def prepare(self, signal: Tensor) -> Tensor:
        """Signal (time, channels) -> (frames, W), which depend on this recording alone."""
        ...

    def finishing(self) -> nn.Module:
        """Front end of batches whose inputs are (N, frames, W), zero beyond their lengths."""
        ...


@dataclass(frozen=True)
class FeatureAdapter:
    """An ``Adapter`` whose batches hold what the front end of ``signals`` prepares.

    A step then computes no Fourier transform, and a cache of 16 kHz sound takes a quarter of the
    memory. For training without augmentation, which changes signals. make: the front end. settings:
    all that what it makes depends on.
    """

    signals: Adapter
    make: Callable[[], Prepared]
    settings: str
    length_axis = 0
    dtype = torch.float32

    @property
    def config(self) -> Any:
        return self.signals.config  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def fingerprint(self) -> str:
        return f"{self.signals.fingerprint} | {self.settings}"

    @property
    def channels(self) -> int:
        return self.signals.channels

    @property
    def axes(self) -> int:
        return self.signals.axes

    @cached_property
    def _front_end(self) -> Prepared:
        return self.make()

    def load(self, recording: Recording) -> Tensor:
        """The signal, (time, channels): caches prepare it with ``prepare``."""
        axis = self.signals.length_axis
        assert axis is not None
        return self.signals.load(recording).movedim(axis, 0)

    def prepare(self, signal: Tensor) -> Tensor:
        """(time, channels) -> (frames, W)."""
        return self._front_end.prepare(signal)

    def front_end(self) -> nn.Module:
        return self._front_end.finishing()

    def augment(self) -> nn.Module | None:
        """That of signals: who has one must not read these batches."""
        return self.signals.augment()

    def describe(self, class_name: str) -> list[str]:
        return self.signals.describe(class_name)
