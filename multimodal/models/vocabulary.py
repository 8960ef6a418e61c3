"""Byte-level BPE whose size is known before it has seen a text.

A stream brings its texts piece by piece, but a decoder's embedding table must not grow: rows are
kept for the markers, every intent of the dataset, the 256 bytes, and ``merges`` pieces, which are
learned from the texts of the first task. What comes later falls into bytes where it must, so every
text comes back exactly and nothing is ever unknown. (Of later tasks it knows the names of the
intents, no text.) The vocabulary of COCONUT's authors is learned from the texts of all tasks and
lacks the digits 4 and 6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from multimodal.errors import UserError
from multimodal.models.byte_pairs import BytePairs
from multimodal.models.targets import FILL, SEP, check_name

PAD, UNK, SOS, EOS, SEP_ID, FILL_ID = range(6)
SPECIALS = 4  # the first of these, which stand for no text
INTENTS = 6  # id of the first intent
# With the space before them, so that the word behind one looks like any other.
MARKERS = {f" {SEP}": SEP_ID, f" {FILL}": FILL_ID}


class TextCheck(NamedTuple):
    """Of ``texts`` texts: empty: those without a word (behind the last marker); too_long: those of
    more tokens than allowed; longest: tokens of the longest.
    """

    texts: int
    empty: int
    too_long: int
    longest: int


class Vocabulary:
    """Ids: [PAD] [UNK] [SOS] [EOS], _SEP, _FILL, the intents, bytes, pieces: ``size`` in all.

    intents: in the order of their ids, whole tokens where a text begins with one, as targets do; in
    the middle of a text their words are words. merges: pieces that ``learn`` may make; rows of
    those that it does not make stay unused. Or those of a trained tokenizer, as the tokenizers
    library writes them: then nothing is learned. UserError: an intent that is empty, holds a
    marker, or is there twice.
    """

    def __init__(self, intents: Sequence[str], *, merges: int | Sequence[tuple[str, str]]) -> None:
        self.learns = isinstance(merges, int)
        self.intents, self.merges = (
            tuple(intents),
            merges if isinstance(merges, int) else len(merges),
        )
        self._intent_ids = {name: INTENTS + i for i, name in enumerate(self.intents)}
        for i, name in enumerate(self.intents):
            check_name("intent", name)
            if self._intent_ids[name] != INTENTS + i:
                raise UserError(f"intent {name!r}: is named twice; give every class its own name.")
        self.bytes_from = INTENTS + len(self.intents)
        self.size = self.bytes_from + 256 + self.merges
        given = () if isinstance(merges, int) else merges
        self._use(BytePairs.spelled_as(self.bytes_from, given))

    def learn(self, texts: Iterable[str]) -> int:
        """Learn pieces from these texts or targets, instead of those before; gives how many.

        Whatever the order of the texts, equal ones give equal pieces. Nothing is learned of intents
        that texts begin with, nor of markers; nor anything where the pieces were given.
        """
        if self.learns:
            parts = chain.from_iterable(self._between_markers(text) for text in texts)
            self._use(BytePairs.learned(self.bytes_from, parts, self.merges))
        return len(self._pairs.spelled) - 256

    def encode(self, text: str) -> list[int]:
        """Without [SOS] and [EOS]; of "" nothing."""
        first, rest = self._split(text)
        return [*first, *self._tokenizer.encode(rest).ids]

    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Int[Tensor, "batch longest"], Int[Tensor, " batch"]]:
        """``encode`` of N texts, [PAD] beyond the lengths, and the lengths (N,).

        dropout: of merges, see ``bpe_dropout``; for the targets of training alone (0.1 in the code
        of COCONUT's authors). generator: of its draws.
        """
        split = [self._split(text) for text in texts]
        rests = [rest for _, rest in split]
        whole = self._tokenizer
        found = whole.encode_batch(rests) if dropout else whole.encode_batch_fast(rests)
        rows = [[*first, *each.ids] for (first, _), each in zip(split, found, strict=True)]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        if dropout and len(flat):
            numbers = [
                [*[-1] * len(first), *each.word_ids]
                for (first, _), each in zip(split, found, strict=True)
            ]
            word = np.fromiter(chain.from_iterable(numbers), np.int64, len(flat))
            text = np.repeat(np.arange(len(rows)), lengths)
            begins = np.r_[True, (np.diff(word) != 0) | (np.diff(text) != 0)]
            flat, words = self._pairs.split_again(flat, begins.cumsum() - 1, dropout, generator)
            lengths = np.bincount(text[begins][words], minlength=len(rows))
        ids = np.full((len(rows), int(lengths.max(initial=0))), PAD, dtype=np.int64)
        ids[np.arange(ids.shape[1]) < lengths[:, None]] = flat
        return torch.from_numpy(ids), torch.from_numpy(lengths)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of ids up to the first [EOS]; bytes that are no UTF-8 are U+FFFD."""
        spelled = []
        for token in ids.tolist() if isinstance(ids, Tensor) else ids:
            if token == EOS:
                break
            spelled.append(self._bytes[token])
        return b"".join(spelled).decode("utf-8", errors="replace")

    @property
    def letters(self) -> Mapping[int, str]:
        """Bytes and pieces as the tokenizers library writes them."""
        return self._pairs.letters

    def check_texts(self, texts: Sequence[str], longest: int) -> TextCheck:
        """What cannot be learned of these texts or targets, at most ``longest`` tokens each."""
        lengths = self.encode_batch(texts)[1]
        empty = sum(not text.rpartition(SEP)[2].strip() for text in texts)
        most = int(lengths.max()) if len(lengths) else 0
        return TextCheck(len(texts), empty, int((lengths > longest).sum()), most)

    def state(self) -> UInt8[Tensor, " bytes"]:
        """JSON for ``load``; its length depends on intents and merges alone."""
        pairs = json.dumps(self._pairs.pairs, separators=(",", ":"))
        most = self.merges * (4 + 2 * len(str(self.size))) + 2
        words = f'{{"intents":{json.dumps(self.intents)},"size":{self.size},"pairs":{pairs}}}'
        padded = words + " " * (most - len(pairs))
        return torch.frombuffer(bytearray(padded.encode()), dtype=torch.uint8)

    def load(self, state: UInt8[Tensor, " bytes"]) -> None:
        """Take over the pieces of another vocabulary of the same intents and size.

        UserError names both where they are not the same.
        """
        try:
            kept = json.loads(bytes(state.cpu().tolist()))
            intents, size = tuple(kept["intents"]), int(kept["size"])
            pairs = [(int(left), int(right)) for left, right in kept["pairs"]]
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(error) from error
        if (intents, size) != (self.intents, self.size):
            raise UserError(
                f"vocabulary: saved with {_facts(intents, size)}, this model has "
                f"{_facts(self.intents, self.size)}{_difference(intents, self.intents)}; use the "
                f"dataset and the decoder.{'merges' if self.learns else 'checkpoint'} that it was "
                "trained with."
            )
        if len(pairs) > self.merges:
            raise _damaged(f"{len(pairs)} merges, at most {self.merges} fit")
        if not self.learns and pairs != self._pairs.pairs:
            raise UserError(
                "vocabulary: saved with other pieces than those of the checkpoint that decoder."
                "checkpoint names now; restore that checkpoint, or train the model again."
            )
        try:
            self._use(BytePairs(self.bytes_from, pairs))
        except ValueError as error:
            raise _damaged(error) from error

    def _use(self, pairs: BytePairs) -> None:
        self._pairs, self._tokenizer = pairs, pairs.tokenizer(MARKERS)
        whole = {token: text.encode() for text, token in (MARKERS | self._intent_ids).items()}
        spelled = whole | pairs.spelled
        self._bytes = [spelled.get(token, b"") for token in range(self.size)]

    def _split(self, text: str) -> tuple[list[int], str]:
        """The intent that the text begins with, if it is one, and the rest."""
        head, marker, rest = text.partition(f" {SEP}")
        known = self._intent_ids.get(head)
        return ([], text) if known is None else ([known], marker + rest)

    def _between_markers(self, text: str) -> list[str]:
        """What stands between the markers, without the intent."""
        return self._split(text)[1].replace(f" {FILL}", f" {SEP}").split(f" {SEP}")


def _damaged(reason: object) -> UserError:
    return UserError(f"vocabulary: what was saved is damaged ({reason}); train the model again.")


def _facts(intents: Sequence[str], size: int) -> str:
    return f"{len(intents)} intents and {size} tokens"


def _difference(saved: Sequence[str], own: Sequence[str]) -> str:
    for one, other in zip(saved, own, strict=False):
        if one != other:
            return f" (the first intents that differ: {one!r} and {other!r})"
    return ""
