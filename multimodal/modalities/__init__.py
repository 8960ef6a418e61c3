"""Modality adapters: from a file to the canonical signal, from a Batch to features.

A registered modality config's ``build()`` returns an Adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from multimodal.recordings import Recording
from multimodal.registry import Registry

if TYPE_CHECKING:  # readers, which import this package, must not cost half a GiB of memory
    import torch
    from torch import Tensor, nn

MODALITIES = Registry("modality", "multimodal.modalities", default="speech")
SEVERAL = "several"  # recordings of several modalities in one table


def modality_of(name: str) -> tuple[str, str]:
    """("speech", "zero") of "speech: zero": so classes and recordings of ``SEVERAL`` are called."""
    modality, _, own = name.partition(": ")
    return modality, own


class Adapter(Protocol):
    """What a modality knows.

    length_axis: axis of the canonical signal that varies between recordings (speech: -1),
    or None where all have one shape.
    dtype: of the canonical signal.
    fingerprint: everything that changes what ``load`` returns; part of the signal cache's key.
    channels, axes: shape (N, channels, *axes) of the features that ``front_end()`` makes: the
    number of channels (log-mel: bands) and how many axes follow (time: 1, image: 2, video: 3).
    """

    @property
    def length_axis(self) -> int | None: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def axes(self) -> int: ...

    def load(self, recording: Recording) -> Tensor:
        """Decode to the canonical form; UserError names the file and what is wrong with it."""
        ...

    def front_end(self) -> nn.Module:
        """Module ``forward(batch: Batch) -> Features``; runs on the training device."""
        ...

    def augment(self) -> nn.Module | None:
        """Module ``forward(batch: Batch) -> Batch`` of the same recordings, randomly changed.

        For training batches only, on the training device; None: no augmentation (the default).
        """
        ...

    def describe(self, class_name: str) -> list[str]:
        """Prompts for a class, best first."""
        ...
