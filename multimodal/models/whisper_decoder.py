"""Whisper's decoder (Radford et al. 2022, arXiv:2212.04356) behind our own classes.

Its byte-level pieces are the vocabulary's, so a text has the same pieces as in the checkpoint; only
their ids are others, for markers and intents stand before them. Weights go into ``Decoder``, which
decodes them as any other. [SOS] is <|startoftranscript|> and [EOS] <|endoftext|>; what stands
between in the checkpoint's prompt (language, task, <|notimestamps|>) is not written, for these
strings are learned. A marker or an intent, which no checkpoint knows, begins as the mean of the
pieces that spell it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from multimodal.encoders.families import family_of, load_model
from multimodal.encoders.pretrained import read_config, refuse_pickles
from multimodal.errors import UserError
from multimodal.hub import local_folder
from multimodal.modalities.text import load_tokenizer
from multimodal.models.decoder import Decoder
from multimodal.models.vocabulary import EOS, MARKERS, PAD, SOS, SPECIALS, Vocabulary

SAME = {
    "self_attn.q_proj": "own.query",
    "self_attn.out_proj": "own.out",
    "self_attn_layer_norm": "norm1",
    "encoder_attn.q_proj": "cross.query",
    "encoder_attn.out_proj": "cross.out",
    "encoder_attn_layer_norm": "norm2",
    "fc1": "wide",
    "fc2": "narrow",
    "final_layer_norm": "norm3",
}
# What ``Decoder`` computes; of every Whisper that was published.
FORM = {"activation_function": "gelu", "scale_embedding": False, "tie_word_embeddings": True}
# Whose pieces tell by which rules a tokenizer takes texts apart.
PROBE = "It's 1,234 cafés -- don't\tstop:  São Paulo, Ελλάδα, 東京 🙂 (THE end)!\n"


class WhisperDecoder:
    """What ``decoder.checkpoint`` names. UserError: no such checkpoint, another architecture, no
    safetensors, a tokenizer that is not byte-level or of another checkpoint.
    """

    def __init__(self, checkpoint: str, revision: str | None = None) -> None:
        self.checkpoint, self.folder = checkpoint, local_folder(checkpoint, revision)
        family, self.config = read_config(checkpoint, self.folder)
        if family is not family_of("whisper", checkpoint):
            raise UserError(
                f"decoder.checkpoint={checkpoint}: is of type {self.config.model_type!r}, which "
                "has no decoder; give a Whisper checkpoint, such as packaged-whisper-tiny-en."
            )
        for name, value in FORM.items():
            if getattr(self.config, name, value) != value:
                raise UserError(
                    f"decoder.checkpoint={checkpoint}: its config.json has {name}="
                    f"{getattr(self.config, name)}, which is not computed here; give a checkpoint "
                    f"of {name}={value}."
                )
        refuse_pickles(checkpoint, self.folder)
        loaded = load_tokenizer(checkpoint, revision)
        self.tokenizer, self.ends = loaded.backend_tokenizer, loaded.eos_token_id

    @property
    def longest(self) -> int:
        """Tokens of a text: [SOS] takes a place too."""
        return self.config.max_target_positions - 1

    @cached_property
    def _pieces(self) -> dict[str, Any]:
        return json.loads(self.tokenizer.to_str())["model"]

    def vocabulary(self, intents: tuple[str, ...]) -> Vocabulary:
        """The checkpoint's pieces behind the markers and these intents."""
        try:
            pairs = [(left, right) for left, right in self._pieces["merges"]]
            found = Vocabulary(intents, merges=pairs)
            self._refuse_other_tokenizer(found)
        except UserError:  # of the intents
            raise
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"decoder.checkpoint={self.checkpoint}: its tokenizer is not one of byte pairs, or "
                f"of another checkpoint ({error}); copy the checkpoint's own tokenizer.json into "
                f"{self.folder}."
            ) from error
        return found

    def _refuse_other_tokenizer(self, vocabulary: Vocabulary) -> None:
        """ValueError: rows of the table would stand for other pieces, or texts have others."""
        known, rows, ends = self._pieces["vocab"], self.config.vocab_size, self.config.eos_token_id
        if self.ends != ends:
            raise ValueError(f"texts end with {self.ends}, of its config.json with {ends}")
        if max(known[letter] for letter in vocabulary.letters.values()) >= rows:
            raise ValueError(f"more pieces than the {rows} rows of its table")
        ours = [vocabulary.letters[token] for token in vocabulary.encode(PROBE)]
        if ours != self.tokenizer.encode(PROBE, add_special_tokens=False).tokens:
            raise ValueError("texts fall into other pieces than by GPT-2's rules")

    def build(self, vocabulary: Vocabulary, *, dropout: float) -> Decoder:
        """With the checkpoint's weights, in float32."""
        from transformers import WhisperForConditionalGeneration

        config = self.config
        made = Decoder(
            vocabulary.size,
            layers=config.decoder_layers,
            heads=config.decoder_attention_heads,
            width=config.d_model,
            feed_forward=config.decoder_ffn_dim,
            dropout=dropout,
            pad=PAD,
            places=config.max_target_positions,
        )
        loaded = load_model(WhisperForConditionalGeneration, self.folder).model.decoder
        weights = loaded.state_dict()
        named = {
            "norm.weight": weights["layer_norm.weight"],
            "norm.bias": weights["layer_norm.bias"],
            "places.weight": weights["embed_positions.weight"],
            "embedding.weight": self._table(weights["embed_tokens.weight"], vocabulary),
        }
        for i in range(config.decoder_layers):
            named |= _layer(weights, f"layers.{i}.")
        made.load_state_dict(named)
        return made

    def _table(self, rows: Tensor, vocabulary: Vocabulary) -> Tensor:
        """(V, D) of our ids from the checkpoint's; rows that spell nothing are zero."""
        table = rows.new_zeros(vocabulary.size, rows.shape[1])
        table[SOS] = rows[self.config.decoder_start_token_id]
        table[EOS] = rows[self.config.eos_token_id]
        new = (*MARKERS, *(f" {name}" for name in vocabulary.intents))
        for token, text in enumerate(new, start=SPECIALS):
            spelled = self.tokenizer.encode(text, add_special_tokens=False).ids
            table[token] = rows[spelled].mean(0)
        known, letters = self._pieces["vocab"], vocabulary.letters
        ours = torch.tensor(list(letters))
        table[ours] = rows[torch.tensor([known[letter] for letter in letters.values()])]
        return table


def _layer(weights: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    found = {
        f"{place}{ours}.{kind}": weights[f"{place}{theirs}.{kind}"]
        for theirs, ours in SAME.items()
        for kind in ("weight", "bias")
    }
    for theirs, ours in (("self_attn", "own"), ("encoder_attn", "cross")):
        key, value = weights[f"{place}{theirs}.k_proj.weight"], f"{place}{theirs}.v_proj"
        bias = weights[f"{value}.bias"]
        found[f"{place}{ours}.memory.weight"] = torch.cat([key, weights[f"{value}.weight"]])
        found[f"{place}{ours}.memory.bias"] = torch.cat([torch.zeros_like(bias), bias])  # keys: 0
    return found
