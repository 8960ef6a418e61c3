"""The texts of a manifest's rows, as the text tower reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from multimodal.batch import Batch
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.models.towers import Aligned
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache

NO_TEXT = -1


class Captions:
    """The texts of a manifest's rows; equal ones are one text.

    texts: of each row, "" where it has none. more: texts that are asked for beside those of rows,
    see ``table``. of_row: (N,) int64, number of the text, -1 for none.
    ``gather(rows)`` is a Batch of token ids or, where the text encoder is frozen, of its outputs,
    which are computed once (and kept in ``folder``, if given). known: such outputs by their key; of
    equal texts and encoders one is used by all.
    """

    def __init__(
        self,
        texts: Sequence[str],
        model: Aligned,
        *,
        settings: object,
        more: Iterable[str] = (),
        folder: Path | None = None,
        known: dict[str, EmbeddingCache] | None = None,
    ) -> None:
        self.unique = tuple(sorted({text for text in (*texts, *more) if text.strip()}))
        if not self.unique:
            raise UserError(
                "every recording has an empty caption; set captions=labels to use class prompts."
            )
        self._numbers = {text: i for i, text in enumerate(self.unique)}
        found = [self._numbers.get(text, NO_TEXT) for text in texts]
        self.of_row = np.array(found, dtype=np.int64)
        signals = SignalCache(_as_manifest(self.unique), model.tokenizer)
        self._source: SignalCache | EmbeddingCache = signals
        if model.text.frozen:
            cache = EmbeddingCache(
                signals,
                model.text.front_end,
                model.text.encoder,
                rows=np.arange(len(self.unique)),
                settings=settings,
                folder=folder,
                device=model.log_scale.device,
            )
            self._source = cache if known is None else known.setdefault(cache.key, cache)

    def has_text(self, rows: np.ndarray) -> np.ndarray:
        """(N,) bool."""
        return self.of_row[rows] != NO_TEXT

    def refuse_missing(self, rows: np.ndarray, manifest: Manifest) -> None:
        """UserError naming the recordings among ``rows`` that have no text."""
        missing = rows[~self.has_text(rows)]
        if len(missing):
            names = ", ".join(repr(manifest.recordings[i].uid) for i in missing[:5])
            more = ", ..." if len(missing) > 5 else ""
            raise UserError(
                f"{len(missing)} of {len(rows)} recordings of dataset {manifest.name!r} have an "
                f"empty caption: {names}{more}; write them, set skip_uncaptioned=true to leave the "
                "recordings out, or captions=labels."
            )

    def table(self, lists: Sequence[Sequence[str]], width: int) -> np.ndarray:
        """(N, width) int64 numbers of the first texts of N lists, -1 beyond their ends."""
        found = np.full((len(lists), width), NO_TEXT, dtype=np.int64)
        for row, texts in zip(found, lists, strict=True):
            row[: len(texts)] = [self._numbers[text] for text in texts[:width]]
        return found

    def ensure(self, rows: np.ndarray) -> None:
        """Embed, or tokenise, the texts of these rows."""
        self.ensure_numbers(self.of_row[rows])

    def ensure_numbers(self, numbers: np.ndarray) -> None:
        """Of texts by their numbers, -1 for none."""
        self._source.ensure(np.unique(numbers[numbers != NO_TEXT]))

    def gather(self, rows: np.ndarray) -> Batch:
        """Of rows that all have a text."""
        return self.numbered(self.of_row[rows])

    def numbered(self, numbers: np.ndarray) -> Batch:
        """Of texts by their numbers, as in ``of_row``."""
        assert (numbers != NO_TEXT).all(), "a row without a text"
        return self._source.gather(numbers)


def _as_manifest(texts: Sequence[str]) -> Manifest:
    rows = tuple(
        Recording(uid=f"{i:09d}", labels=(0,), split="train", text=text)
        for i, text in enumerate(texts)
    )
    return Manifest(
        name="captions", modality="text", class_names=("text",), recordings=rows, version="1"
    )
