"""What Avalanche's own strategies read: every recording as one tensor of one shape.

They open plain data loaders, which can only stack tensors of one shape, and give what comes out to
any ``nn.Module``. So recordings of different lengths are padded with zeros at the end, or cut, to
one length; ``TensorTower`` finds the padding again, for an encoder that masks it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from multimodal.batch import Batch
from multimodal.encoders import Encoder
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES, Adapter
from multimodal.models.towers import Reader
from multimodal.recordings import Manifest

Gather = Callable[[Tensor], Batch]
AT_ONCE = 64  # recordings that are gathered together while their lengths are looked up


class TensorDataset(Dataset):
    """``(tensor, label)`` of a manifest's rows, each tensor of one shape.

    The canonical signal of the modality, along its length axis exactly ``length`` steps: the first
    ones of a longer recording; zeros follow the last one of a shorter recording. Where ``gather``
    brings embeddings in place of signals the tensor is the embedding, (D,).

    rows: those that will be asked for; all are decoded here, once, to know the longest. length:
    None takes that of the longest. UserError: data with several labels a recording, or a length
    where there is none to choose.
    """

    def __init__(
        self, manifest: Manifest, rows: np.ndarray, gather: Gather, *, length: int | None = None
    ) -> None:
        if manifest.multi_label:
            raise UserError(
                f"as_benchmark(tensors=True): recordings of dataset {manifest.name!r} have several "
                "labels or none, and Avalanche's strategies learn one label each; use a "
                "single-label dataset, or one of Medley's learners."
            )
        self.targets: list[int] = manifest.labels.tolist()
        self.gather = gather
        adapter: Adapter = MODALITIES.parse(manifest.modality).build()  # pyright: ignore
        self.axis = adapter.length_axis
        longest = 0
        for part in torch.as_tensor(np.unique(rows)).split(AT_ONCE):
            batch = gather(part)
            longest = max(longest, int(batch.lengths.max()))
            if _embedded(batch):
                self.axis = None
        if length is not None and (self.axis is None or length < 1):
            raise UserError(
                f"as_benchmark(length={length}): give at least 1 step, and leave it out where all "
                f"of a dataset has one shape (pictures, embeddings); this is {manifest.name!r}."
            )
        self.length = length or longest

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        batch = self.gather(torch.tensor([row]))
        if _embedded(batch):
            assert batch.embeddings is not None
            return batch.embeddings[0], self.targets[row]
        signal = batch.inputs[0]
        return signal if self.axis is None else self._fit(signal, self.axis), self.targets[row]

    def _fit(self, signal: Tensor, axis: int) -> Tensor:
        missing = self.length - signal.shape[axis]
        if missing <= 0:
            return signal.narrow(axis, 0, self.length)
        shape = list(signal.shape)
        shape[axis] = missing
        return torch.cat([signal, signal.new_zeros(shape)], dim=axis)


class TensorTower(Reader):
    """A modality's front end and an encoder, for Avalanche's strategies: ``(N, ...) -> (N, D)``.

    ``nn.Sequential(OrderedDict(features=TensorTower(adapter, encoder), head=nn.Linear(D, C)))`` is
    a classifier with names that their strategies ask for.

    Trailing steps in which everything is exactly 0 count as padding, so an encoder that masks
    answers as if each recording had come in its own length; what ends in digital silence (or, in
    video, in black frames) is read without that end.
    """

    def __init__(self, adapter: Adapter, encoder: Encoder) -> None:
        super().__init__(adapter.front_end(), encoder)
        self.axis = adapter.length_axis

    def forward(self, signals: Tensor) -> Tensor:
        count = torch.arange(len(signals), device=signals.device)
        return self.encode(Batch(signals, self._lengths(signals), torch.zeros_like(count), count))

    def _lengths(self, signals: Tensor) -> Tensor:
        if self.axis is None:
            return signals.new_ones(len(signals), dtype=torch.int64)
        axis = self.axis + 1 if self.axis >= 0 else signals.ndim + self.axis
        sounding = (signals != 0).movedim(axis, 1).flatten(2).any(2)  # (N, steps)
        steps = torch.arange(1, sounding.shape[1] + 1, device=signals.device)
        return (sounding * steps).amax(1).clamp(min=1)


def _embedded(batch: Batch) -> bool:
    """It brings embeddings of a frozen tower in place of signals."""
    return batch.embeddings is not None and batch.inputs.numel() == 0
