"""Merges of bytes into pieces: learned, applied by the tokenizers library, or left out at random.

Sennrich et al., ACL 2016; over bytes as in GPT-2 (Radford et al. 2019), whose rules also say where
words end. A word holds the space before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from multimodal.models.bpe_dropout import NOTHING, merge_words


class BytePairs:
    """Ids ``first`` + byte of the bytes, then of the pieces in the order of their merges.

    pairs: ids (left, right) of each merge, the first has the highest priority; two may make the
    same piece. spelled: bytes of each id. ValueError: merges of what is not there.
    """

    def __init__(self, first: int, pairs: Sequence[tuple[int, int]] = ()) -> None:
        self.first, self.pairs = first, list(pairs)
        self.spelled = {first + byte: bytes([byte]) for byte in range(256)}
        self._letters = {first + byte: letter for byte, letter in enumerate(LETTERS)}
        self._ids = {letter: token for token, letter in self._letters.items()}
        for left, right in self.pairs:
            if left not in self.spelled or right not in self.spelled:
                raise ValueError(f"merge {left} {right} is of pieces that are not there")
            token = self._ids.setdefault(self._made(left, right), first + len(self._ids))
            self._letters[token] = self._made(left, right)
            self.spelled[token] = self.spelled[left] + self.spelled[right]

    @classmethod
    def learned(cls, first: int, texts: Iterable[str], most: int) -> BytePairs:
        """At most so many merges, the most frequent pair first; the order of texts is no matter."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = _words()
        trainer: Any = trainers.BpeTrainer(  # pyright: ignore[reportCallIssue]
            vocab_size=256 + most, initial_alphabet=LETTERS, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls.spelled_as(first, json.loads(tokenizer.to_str())["model"]["merges"][:most])

    @classmethod
    def spelled_as(cls, first: int, merges: Iterable[tuple[str, str]]) -> BytePairs:
        """Merges as the tokenizers library writes them. KeyError: of what is not there."""
        ids = {letter: first + byte for byte, letter in enumerate(LETTERS)}
        pairs = []
        for left, right in merges:
            pairs.append((ids[left], ids[right]))
            ids.setdefault(left + right, first + len(ids))
        return cls(first, pairs)

    @property
    def letters(self) -> Mapping[int, str]:
        """Every id as the tokenizers library writes it."""
        return self._letters

    def tokenizer(self, whole: Mapping[str, int]) -> Tokenizer:
        """whole: texts that are one token wherever they stand, and their ids, below ``first``."""
        merges = [(self._letters[left], self._letters[right]) for left, right in self.pairs]
        found = Tokenizer(models.BPE(vocab={**whole, **self._ids}, merges=merges))
        found.pre_tokenizer = _words()
        found.add_tokens([AddedToken(text, normalized=False) for text in whole])
        return found

    def split_again(
        self,
        ids: np.ndarray,
        words: np.ndarray,
        ratio: float,
        generator: torch.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of words (T,), one word behind the other -> their tokens with BPE-dropout.

        words: (T,) the number of each token's word, from 0, never falling. Gives tokens (S,) and
        their words' numbers. Ids below ``first`` stay as they are.
        """
        known = ids >= self.first
        spelled = [self.spelled.get(token, b" ") for token in ids.tolist()]
        sizes = np.fromiter(map(len, spelled), np.int64, len(ids))
        bytes_ = np.frombuffer(b"".join(spelled), np.uint8).astype(np.int64) + self.first
        symbols = np.where(np.repeat(known, sizes), bytes_, np.repeat(ids, sizes))
        lengths = np.bincount(np.repeat(words, sizes))
        padded = np.full((len(lengths), int(lengths.max(initial=0))), NOTHING, dtype=np.int64)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = symbols
        pairs, products = self._merges
        merged = merge_words(
            torch.from_numpy(padded), pairs, products, ratio, generator=generator
        ).numpy()
        there = merged != NOTHING
        return merged[there], np.nonzero(there)[0]

    @cached_property
    def _merges(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, 2) pairs and (M,) what each makes: tens of thousands, of a checkpoint."""
        products = [self._ids[self._made(left, right)] for left, right in self.pairs]
        pairs = torch.tensor(self.pairs, dtype=torch.int64).view(-1, 2)
        return pairs, torch.tensor(products, dtype=torch.int64)

    def _made(self, left: int, right: int) -> str:
        return self._letters[left] + self._letters[right]


def _words() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportCallIssue]


def _letters() -> list[str]:
    """The printable letter that the tokenizers library writes for each of the 256 bytes."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


LETTERS = _letters()
