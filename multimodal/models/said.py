"""What a spoken-language model is to write of the recordings of a manifest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.models.targets import normalise, write_target
from multimodal.models.vocabulary import Vocabulary

Slots = Sequence[tuple[str, str]]


class Said:
    """What is to be written of a manifest's rows: strings, and token ids once there are pieces.

    texts, slots: of every row, as in ``Manifest``, or None: then nothing follows an intent.
    longest: tokens of a string; truncate: cut longer ones. dropout: of merges, in ``gather``; then
    strings are read anew each time.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        class_names: tuple[str, ...],
        texts: tuple[str, ...] | None,
        slots: Sequence[Slots] | None,
        *,
        longest: int,
        truncate: bool = False,
        dropout: float = 0.0,
    ) -> None:
        self.dropout = dropout
        self.vocabulary, self.class_names = vocabulary, class_names
        self.texts, self.slots = texts, slots
        self.longest, self.truncate = longest, truncate
        self.forget()

    def forget(self) -> None:
        """Nothing is encoded yet, as before the first pieces."""
        self.lengths = torch.empty(0, dtype=torch.int64)
        self.ids = torch.zeros(0, 0, dtype=torch.int32)

    def targets(self, rows: np.ndarray, labels: np.ndarray) -> list[str]:
        """The strings of rows (N,) with class ids (N,)."""
        texts, slots = self.texts, self.slots
        return [
            write_target(self.class_names[c], slots[i] if slots else (), texts[i] if texts else "")
            for i, c in zip(rows.tolist(), labels.tolist(), strict=True)
        ]

    def check(self, rows: np.ndarray) -> None:
        """UserError if texts of these rows have no word, or are too long for the decoder, or if
        any text or slot, of a test too, cannot be written: a test is scored after the training.
        """
        texts = self.texts or ()
        every = np.arange(len(texts or self.slots or ()))
        self.targets(every, np.zeros_like(every))
        empty = [texts[row] for row in rows if not normalise(texts[row])] if texts else []
        if empty:
            raise UserError(
                f"{len(empty)} of {len(rows)} texts of training recordings have no letter and no "
                f"digit, such as {empty[0]!r}: write what is said, or leave these recordings out."
            )
        found = self.vocabulary.check_texts(self.targets(rows, np.zeros_like(rows)), self.longest)
        if found.too_long and not self.truncate:
            raise UserError(
                f"{found.too_long} of {len(rows)} targets are longer than decoder.longest="
                f"{self.longest} tokens (the longest has {found.longest}): raise it, or set "
                "truncate=true to cut them."
            )

    def gather(self, batch: Batch) -> tuple[Int[Tensor, "batch length"], Int[Tensor, " batch"]]:
        """Ids (N, T), [PAD] beyond the lengths (N,), on the batch's device; a row is read once."""
        rows, device = batch.indices.cpu(), batch.labels.device
        if self.dropout:
            ids, lengths = self._encode(rows, batch.labels.cpu())
            return ids.to(device), lengths.to(device)
        self._hold(int(rows.max()) + 1, self.ids.shape[1])
        new = self.lengths[rows] < 0
        if new.any():
            self._add(rows[new], batch.labels.cpu()[new])
        lengths = self.lengths[rows]
        ids = self.ids[rows, : int(lengths.max())]
        return ids.long().to(device), lengths.to(device)

    def _add(self, rows: Tensor, labels: Tensor) -> None:
        ids, lengths = self._encode(rows, labels)
        self._hold(0, ids.shape[1])
        self.ids[rows, : ids.shape[1]] = ids.int()
        self.lengths[rows] = lengths

    def _hold(self, rows: int, width: int) -> None:
        """Make room for this many rows and tokens."""
        have, wide = self.ids.shape
        if rows > have or width > wide:
            more = max(rows, 2 * have) if rows > have else have
            room = torch.zeros(more, max(width, wide), dtype=torch.int32)
            room[:have, :wide] = self.ids
            lengths = torch.full((more,), -1)
            lengths[:have] = self.lengths
            self.ids, self.lengths = room, lengths

    def _encode(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        strings = self.targets(rows.numpy(), labels.numpy())
        ids, lengths = self.vocabulary.encode_batch(strings, dropout=self.dropout)
        return ids[:, : self.longest], lengths.clamp(max=self.longest)
