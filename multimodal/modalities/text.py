"""Text: the words of a recording -> token ids (L,), by the tokenizer of a pretrained encoder.

There is no tokenizer of our own: ids mean something only to the checkpoint they were made for.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from multimodal.batch import Batch, Features
from multimodal.errors import UserError
from multimodal.hub import PACKAGED, local_folder
from multimodal.modalities import MODALITIES
from multimodal.recordings import Recording
from multimodal.registry import Config


@MODALITIES.register("text")
class TextConfig(Config):
    """Texts as token ids.

    tokenizer: that of the encoder's checkpoint: a folder, a name on the hub, or packaged-minilm.
    revision: the commit of a hub name, 40 hexadecimal digits. max_length: keep at most this many
    tokens of each text, special ones included, 8 to 8,192; cut texts are counted and reported.
    """

    tokenizer: str = PACKAGED
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    max_length: int = Field(default=128, ge=8, le=8192)

    def build(self, *, section: str = "modality") -> TextAdapter:
        """section: of the user's config that these settings stand in, for errors."""
        return TextAdapter(self, section=section)


class TextAdapter:
    """Adapter of texts: canonical signal (L,) int64 token ids, L >= 1, special tokens included.

    Only encoders that read token ids ("pretrained" with a text checkpoint, and "lora" on it) can
    use it; "compact" cannot, so ``channels`` answers with a UserError.
    ``load`` and ``tokenize`` may be called from several threads. ``seen`` and ``truncated`` count
    the texts that they were given and those that they cut; ids that a signal cache has on disk
    already are not counted again.
    """

    length_axis = -1
    axes = 1
    dtype = torch.int64

    def __init__(self, config: TextConfig, *, section: str = "modality") -> None:
        self.config, self.section = config, section
        self.seen, self.truncated, self.longest = 0, 0, 0
        # A tokenizer changes its own state when it cuts, and refuses to do so in two threads.
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> TextAdapter:
        """Copies of a model share it, with its counts and its lock."""
        return self

    @property
    def channels(self) -> int:
        raise UserError(
            "modality 'text' has token ids, no channels: only the encoder 'pretrained' with a text "
            "checkpoint (and 'lora' on it) reads them; 'compact' does not."
        )

    @property
    def fingerprint(self) -> str:
        return f"text/1 max_length={self.config.max_length} tokenizer={self._digest}"

    def load(self, recording: Recording) -> Tensor:
        """(L,) ids of ``recording.text``, cut to ``max_length``; UserError if it has no text."""
        if not recording.text.strip():
            raise UserError(
                f"{recording.where}: the recording has no text; remove it, or give it a caption, "
                "report or transcript."
            )
        return torch.tensor(self._ids([recording.text])[0])

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """N >= 1 texts -> ids (N, L), zero beyond the lengths, and lengths (N,), both int64.

        The ids are those of ``load``. An empty text is its special tokens.
        """
        rows = self._ids(list(texts))
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = torch.tensor(values)
        return ids, lengths

    def truncation_report(self) -> str:
        """One line: how many texts were cut so far, and how long the longest was."""
        if not self.truncated:
            return f"none of {self.seen} texts was cut to {self.config.max_length} tokens"
        return (
            f"{self.truncated} of {self.seen} texts were cut to {self.config.max_length} tokens "
            f"(the longest has {self.longest}); raise {self.section}.max_length if "
            "the ends matter"
        )

    def front_end(self) -> nn.Module:
        """``TokenIds``: Batch -> Features (N, L) int64."""
        return TokenIds()

    def augment(self) -> None:
        """None: texts are never changed."""

    def describe(self, class_name: str) -> list[str]:
        """The bare words first."""
        words = class_name.replace("_", " ").strip().lower()
        return [words, f"This text is about {words}.", f"A text about {words}."]

    @property
    def vocabulary(self) -> dict[str, int]:
        """Token -> id."""
        return self._tokenizer.get_vocab()

    def _ids(self, texts: list[str]) -> list[list[int]]:
        most = self.config.max_length
        with self._lock:
            # verbose=False: the library's own warning about long texts is our report.
            whole = self._tokenizer(texts, verbose=False)["input_ids"]
            rows = [
                row
                if len(row) <= most
                else self._tokenizer(text, truncation=True, max_length=most)["input_ids"]
                for row, text in zip(whole, texts, strict=True)
            ]
            sizes = [len(row) for row in whole]
            self.seen += len(sizes)
            self.truncated += sum(size > most for size in sizes)
            self.longest = max([self.longest, *sizes])
        return rows

    @property
    def _tokenizer(self) -> Any:
        return self._loaded[0]

    @property
    def _digest(self) -> str:
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Any, str]:
        tokenizer = load_tokenizer(self.config.tokenizer, self.config.revision)
        limit, length = tokenizer.model_max_length, self.config.max_length
        if length > limit:
            raise UserError(
                f"{self.section}.max_length={length}: tokenizer {self.config.tokenizer!r} allows "
                f"at most {limit}; set {self.section}.max_length={limit}."
            )
        # Before its first call, so that the lengths of a call are no part of it.
        state = tokenizer.backend_tokenizer.to_str()
        return tokenizer, hashlib.sha256(state.encode()).hexdigest()[:16]


class TokenIds(nn.Module):
    """Front end without parameters: the ids are the features."""

    def forward(self, batch: Batch) -> Features:
        """``batch.inputs``: (N, L) int64, zero beyond ``batch.lengths``."""
        return Features(batch.inputs, batch.lengths)


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """A transformers tokenizer (see ``local_folder`` for names); UserError if there is none."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = local_folder(name, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # Damaged JSON ends in the tokenizers library, which raises bare Exceptions, and panics of Rust.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"tokenizer {name!r}: {folder} holds none that can be read ({reason}); copy the "
            "checkpoint's tokenizer files (tokenizer.json, ...) into it."
        ) from error
    # Without any files transformers makes an empty one.
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_tokens):
        raise UserError(
            f"tokenizer {name!r}: {folder} holds none; copy the checkpoint's tokenizer files "
            "(tokenizer.json, ...) into it."
        )
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"tokenizer {name!r}: {folder} has no tokenizer.json; save one there with "
            "transformers' convert_slow_tokenizer."
        )
    return tokenizer
