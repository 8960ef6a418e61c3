"""Fakes for the tests of the signal cache."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache


@dataclass
class Fake:
    """Canonical (2, T) or (1, T) signals from recordings' own arrays; counts what it loads."""

    length_axis: int | None = -1
    dtype: torch.dtype = torch.float32
    fingerprint: str = "fake"
    channels: int = 1
    loaded: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, recording: Recording) -> Tensor:
        with self.lock:
            self.loaded.append(recording.uid)
        assert recording.make is not None
        return torch.from_numpy(recording.make()).to(self.dtype)

    def front_end(self) -> nn.Module:
        raise NotImplementedError

    def describe(self, class_name: str) -> list[str]:
        return [class_name]


def broken() -> np.ndarray:
    raise UserError("broken.wav: truncated; copy it again.")


def manifest_of(makers: list[Callable[[], np.ndarray]], labels=None, texts=None) -> Manifest:
    rows = [
        Recording(
            f"{i:05d}",
            (i % 3,) if labels is None else labels[i],
            "train",
            make=make,
            text="" if texts is None else texts[i],
        )
        for i, make in enumerate(makers)
    ]
    return Manifest("fake", "fake", ("a", "b", "c"), tuple(rows), "1")


def constant(array: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: array


def arrays_of(lengths: list[int], shape: tuple[int, ...] = (1, -1)) -> list[np.ndarray]:
    """Signals of the given shape, -1 standing for each length; no zero among the samples."""
    generator = np.random.default_rng(0)
    return [
        generator.integers(1, 100, [n if d == -1 else d for d in shape]).astype(np.float32)
        for n in lengths
    ]


def cache_of(arrays: list[np.ndarray], adapter: Fake | None = None, **options) -> SignalCache:
    manifest = manifest_of([constant(a) for a in arrays])
    return SignalCache(manifest, adapter or Fake(), progress=False, **options)  # pyright: ignore[reportArgumentType]


def naive(arrays: list[np.ndarray], rows: list[int], axis: int) -> Tensor:
    signals = [torch.from_numpy(arrays[i]).movedim(axis, 0) for i in rows]
    padded = pad_sequence(signals, batch_first=True)
    return padded.movedim(1, axis if axis < 0 else axis + 1)
